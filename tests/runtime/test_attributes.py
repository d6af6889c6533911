"""Attributes are decoded by declared type, never guessed."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import subbyte.graph.ops as ops
from subbyte.errors import GraphError, ModelFileError
from subbyte.graph.ops.op import Op, attributes, op_class, op_names
from subbyte.runtime.attributes import _field_types, decode_float, decode_op, encode_float, encode_op

INTEGER = [name for name in op_names() if op_class(name).dialect != "float"]


@pytest.mark.parametrize("name", INTEGER)
def test_every_field_of_every_integer_operator_has_a_type_that_files_can_hold(name):
    """A new operator whose fields the file could not hold fails here, not at its first save."""
    cls = op_class(name)
    values = {key: _sample(kind) for key, kind in _field_types(cls).items()}
    op = cls(**values)
    assert decode_op(name, encode_op(op), "here") == op
    for key in values:
        with pytest.raises(ModelFileError, match=key):
            decode_op(name, {k: v for k, v in encode_op(op).items() if k != key}, "here")
        with pytest.raises(ModelFileError, match=key):
            decode_op(name, {**encode_op(op), key: {"no": "value"}}, "here")
        with pytest.raises(ModelFileError, match=key):
            decode_op(name, {**encode_op(op), key: 1.0}, "here")


def _sample(kind):
    """Some value of a declared type."""
    plain = {int: 7, bool: True, float: 0.1, str: "channels_last"}
    if kind in plain:
        return plain[kind]
    arguments = getattr(kind, "__args__", ())
    if getattr(kind, "__origin__", None) is tuple:
        entries = arguments[:1] * 3 if arguments[-1] is Ellipsis else arguments
        return tuple(_sample(entry) for entry in entries)
    return _sample(next(a for a in arguments if a is not type(None)))


@pytest.mark.parametrize("value", [True, 1.0, "1", None, [1], 2**63])
def test_integers_are_integers(value):
    raw = {**encode_op(ops.IntRescale(m=1, n=1, lo=0, hi=1)), "m": value}
    with pytest.raises(ModelFileError, match="'m'"):
        decode_op("int_rescale", raw, "here")


@pytest.mark.parametrize("value", [1, 0, "true", None])
def test_booleans_are_booleans(value):
    op = ops.MaxPool(kernel=(1, 1), stride=(1, 1), ceil_mode=True)
    with pytest.raises(ModelFileError, match="ceil_mode"):
        decode_op("max_pool", {**encode_op(op), "ceil_mode": value}, "here")


def test_tuples_have_their_length():
    op = ops.ResizeNearest(size=(4, 4))
    for size in ([4], [4, 4, 4], [], "44", [4, None]):
        with pytest.raises(ModelFileError, match="size"):
            decode_op("resize_nearest", {**encode_op(op), "size": size}, "here")
    with pytest.raises(ModelFileError, match="perm"):
        decode_op("transpose", {"perm": [0] * 65}, "here")


@pytest.mark.parametrize("name", ["int_konv", "", "x" * 10_000, 3, None, ["int_conv"]])
def test_unknown_operators(name):
    with pytest.raises((GraphError, ModelFileError)) as caught:
        decode_op(name, {}, "node 'a'")
    assert len(str(caught.value)) < 2000
    assert caught.value.place == "node 'a'"


def test_float_operators_are_refused_by_name():
    with pytest.raises(ModelFileError, match="'unary'"):
        decode_op("unary", attributes(ops.Unary(function="sigmoid")), "here")


@given(st.floats(allow_nan=False))
def test_floats_are_exact(value):
    decoded = decode_float(encode_float(value), "here")
    assert decoded == value
    assert math.copysign(1, decoded) == math.copysign(1, value)


@pytest.mark.parametrize(
    "raw",
    ["nan", "0x1p0", "0x1.0p+0", "0x1.80p+0", "1.5", "0x1.8p+0 ", "0x1.0000000000000p+9999", "0X1.8P+0", 1.5, 1, None],
)
def test_floats_have_one_spelling(raw):
    with pytest.raises(ModelFileError):
        decode_float(raw, "here")


def test_operators_are_frozen_dataclasses():
    for name in INTEGER:
        cls = op_class(name)
        assert issubclass(cls, Op)
        assert dataclasses.is_dataclass(cls)
