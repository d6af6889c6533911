"""Operator attributes as JSON and back, by the types that the operator's fields declare.

Integers stay integers, floats become hexadecimal strings (exact, one spelling), tuples lists. Decoding never guesses: a
field declared ``int`` takes no ``true`` and no ``1.0``. Ranges are the operator's own ``infer`` and ``check``.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Literal, Union, get_args, get_origin

from subbyte.errors import GraphError, SubbyteError
from subbyte.graph import ir
from subbyte.graph.ops.op import Op, attributes, op_class
from subbyte.names import MAX_NAME
from subbyte.runtime.container import broken, exact_keys, shown
from subbyte.runtime.described import mapping, without

MAX_LENGTH = 64
"""Longest tuple; attributes have an entry per axis."""

_MAX_OP_NAME = 64
_INT64 = (-(2**63), 2**63 - 1)
_HEX = re.compile(r"-?0x[01](\.[0-9a-f]{1,13})?p[+-][0-9]{1,4}|-?inf")
_NEEDLESS = re.compile(r"\.?0+(?=p)")


def encode_op(op: Op, usual: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """Attributes of an operator as JSON values, without those that have their usual value."""
    return {name: _encode(value) for name, value in without(attributes(op), usual).items()}


def decode_op(name: Any, raw: Any, place: str, usual: Mapping[str, Any] = MappingProxyType({})) -> Op:
    """The operator of a name with these attributes; those left out have their usual value.

    Raises:
        GraphError: the operator is unknown; the nearest names are given.
        ModelFileError: it belongs to the float dialect, or an attribute is missing, unknown or of the wrong type.
    """
    if not isinstance(name, str) or len(name) > _MAX_OP_NAME:
        raise broken(f"an operator is named {shown(name)}", "operators are named by short words", place)
    try:
        cls = op_class(name)
    except GraphError as error:
        raise GraphError(error.seen, error.rule, error.remedy, place) from error
    if cls.dialect == "float":
        raise broken(f"operator {name!r} works on floats", "a model file holds integer operators only", place)
    fields = _field_types(cls)
    left_out = {key: _encode(value) for key, value in usual.items() if key in fields}
    given = mapping(raw, f"attributes of {place}")
    values = exact_keys({**left_out, **given}, set(fields), f"attributes of {place}")
    decoded = {key: _decode(values[key], kind, f"attribute {key!r} of {place}") for key, kind in fields.items()}
    try:
        return cls(**decoded)
    except SubbyteError:
        raise
    except (TypeError, ValueError) as error:
        raise broken(f"operator {name!r} refuses its attributes: {error}", "attributes are legal", place) from error


def encode_float(value: float) -> str:
    """The hexadecimal spelling of a float, without needless zeros: ``0x1.8p-6``."""
    whole, point, rest = float(value).hex().partition(".")
    return whole + _NEEDLESS.sub("", point + rest)


def decode_float(raw: Any, place: str) -> float:
    """The float of its hexadecimal spelling."""
    if not isinstance(raw, str) or not _HEX.fullmatch(raw):
        raise broken(f"the real number {shown(raw)}", "reals are hexadecimal, without needless zeros", place)
    try:
        value = float.fromhex(raw)
    except OverflowError:
        value = math.nan
    if encode_float(value) != raw:
        raise broken(f"the real number {raw!r}", "reals are hexadecimal, without needless zeros", place)
    return value


def _encode(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_encode(v) for v in value]
    if isinstance(value, float):
        return encode_float(value)
    return value


@cache
def _field_types(cls: type[Op]) -> dict[str, Any]:
    # Operators import names such as Dim for type checkers only, so they are looked up in the module that defines them.
    hints = typing.get_type_hints(cls, localns=vars(ir))
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}  # type: ignore[arg-type]


def _decode(raw: Any, kind: Any, place: str) -> Any:
    origin = get_origin(kind)
    if origin is tuple:
        return _decode_tuple(raw, get_args(kind), place)
    if origin in {Union, types.UnionType}:
        return _decode_union(raw, get_args(kind), place)
    if origin is Literal:
        if isinstance(raw, str) and raw in get_args(kind):
            return raw
    elif kind is float:
        return decode_float(raw, place)
    elif kind is int:
        if type(raw) is int and _INT64[0] <= raw <= _INT64[1]:
            return raw
    elif (kind is bool and type(raw) is bool) or (kind is str and type(raw) is str and len(raw) <= MAX_NAME):
        return raw
    elif kind is type(None) and raw is None:
        return None
    raise _mismatch(raw, kind, place)


def _decode_tuple(raw: Any, kinds: tuple[Any, ...], place: str) -> tuple[Any, ...]:
    if not isinstance(raw, list) or len(raw) > MAX_LENGTH:
        raise _mismatch(raw, "a list", place)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(raw)
    if len(kinds) != len(raw):
        raise _mismatch(raw, f"a list of {len(kinds)}", place)
    return tuple(_decode(v, kind, place) for v, kind in zip(raw, kinds, strict=True))


def _decode_union(raw: Any, kinds: tuple[Any, ...], place: str) -> Any:
    if raw is None and type(None) in kinds:
        return None
    first, *others = [k for k in kinds if k is not type(None)]
    if others:
        raise _mismatch(raw, "a type that files can hold", place)
    return _decode(raw, first, place)


def _mismatch(raw: Any, kind: Any, place: str) -> SubbyteError:
    wanted = kind.__name__ if isinstance(kind, type) else str(kind)
    return broken(f"the value {shown(raw)}", f"this attribute is {wanted}", place)
