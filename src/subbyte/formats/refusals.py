"""Which format may play which role at which operator: the one reviewed list of refusals.

What this list lets pass runs in all three executors (NumPy reference, torch, native); there is no format that one of
them takes and another refuses, so the list has no column for executors.

Padding refuses no format: it contributes nothing to the sum of a convolution, whether or not the table has a 0 (a
mid-rise table has its zero point between two values).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from subbyte.arithmetic.bounds import MOST_WEIGHT
from subbyte.errors import FormatError, unknown_name
from subbyte.formats.format import Format

Role = Literal["weight", "affine_weight", "activation", "storage"]
ROLES: tuple[str, ...] = get_args(Role)

EVERYWHERE: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """One line of the list.

    Attributes:
        role: ``weight`` (zero point 0), ``affine_weight`` (with zero points), ``activation`` (operand of a layer, as it
            is multiplied) or ``storage`` (what inputs, outputs and results between nodes are kept in).
        operators: where it holds, by float operator that reads or makes the number; empty is everywhere.
        formats: which formats, in words.
        applies: the same as a test.
        reason: why.
        remedy: what to use instead.
    """

    role: Role
    operators: tuple[str, ...]
    formats: str
    applies: Callable[[Format], bool]
    reason: str
    remedy: str


_GAPS = "values that are not consecutive (binary, midrise<bits>, codebooks, powers of two, small floats, own tables)"

_TOO_MANY = Refusal(
    role="weight",
    operators=EVERYWHERE,
    formats="more than 256 levels (int16)",
    applies=lambda f: f.levels > 256,
    reason="codes of weights are bytes",
    remedy="use int8 or fewer bits for weights",
)


def _storing_alone(role: Role) -> Refusal:
    return Refusal(
        role=role,
        operators=EVERYWHERE,
        formats="formats for storing alone (dynamic<bits>, udynamic<bits>)",
        applies=lambda f: f.storing_alone,
        reason="its values span so many decades, in blocks with scales of their own, that they are no integers to "
        "multiply",
        remedy="use int8, fp6_e2m3, nf4 or fp4_e2m1 for weights and uint8 or uint4 for activations; this format is for "
        "storing: quantize_blocks, encode, decode, pack",
    )


def _far(role: Role) -> Refusal:
    return Refusal(
        role=role,
        operators=EVERYWHERE,
        formats="a value beyond 24 bits (fp8_e5m2)",
        applies=lambda f: f.max_abs > MOST_WEIGHT,
        reason="numbers multiply as integers of 24 bits and a sign, so that their sums are proved to fit 64 bits",
        remedy="use fp8_e4m3fn, fp6_e3m2, int8 or nf4 in networks; this format is for storing: encode, decode, pack",
    )


def _beyond_int16(role: Role) -> Refusal:
    return Refusal(
        role=role,
        operators=EVERYWHERE,
        formats="a value outside 16 bits, and more than 256 values or none that is 0",
        applies=lambda f: not f.fits_int16 and not f.coded,
        reason="activations lie between layers as integers of at most 16 bits, or as codes of at most 256 values",
        remedy="use int16, uint8 or fp8_e4m3fn for activations, or a table of at most 256 values with a 0",
    )


REFUSALS: tuple[Refusal, ...] = (
    *(_storing_alone(role) for role in get_args(Role)),
    _far("weight"),
    _far("affine_weight"),
    _far("activation"),
    _beyond_int16("activation"),
    _far("storage"),
    _beyond_int16("storage"),
    _TOO_MANY,
    Refusal(
        role="weight",
        operators=EVERYWHERE,
        formats="no negative or no positive value (uint<bits>, int1)",
        applies=lambda f: f.lo >= 0 or f.hi <= 0,
        reason="weights have both signs, and with a zero point of 0 the table has only one",
        remedy="use a signed format such as int4, or weights with zero points (symmetric=False)",
    ),
    Refusal(
        role="affine_weight",
        operators=EVERYWHERE,
        formats=_TOO_MANY.formats,
        applies=_TOO_MANY.applies,
        reason=_TOO_MANY.reason,
        remedy=_TOO_MANY.remedy,
    ),
    Refusal(
        role="affine_weight",
        operators=EVERYWHERE,
        formats=_GAPS,
        applies=lambda f: not f.uniform,
        reason="a zero point shifts the table, and only consecutive values can be shifted onto 0",
        remedy="use symmetric=True, or a format of consecutive values such as int4",
    ),
    Refusal(
        role="activation",
        operators=EVERYWHERE,
        formats="not consecutive, and all values above 0 or below it",
        applies=lambda f: not f.uniform and (f.lo > 0 or f.hi < 0),
        reason="the real number 0 has no place in the table, and no zero point can give it one",
        remedy="use a table with values on both sides of 0, or with a 0",
    ),
    Refusal(
        role="storage",
        operators=EVERYWHERE,
        formats=_GAPS,
        applies=lambda f: not f.uniform,
        reason="results that any operator may read are rescaled, rounded and clamped to consecutive integers",
        remedy="store in uint8 and give this format, where it is legal, as activations: it is re-coded by a table at "
        "the layer that reads, or kept as codes where layers alone read it",
    ),
)


def refused(format: Format, role: str, operator: str = "") -> Refusal | None:
    """The first line of the list that speaks against a format in a role, None where it is legal.

    Args:
        format: number format.
        role: one of ``ROLES``.
        operator: name of a float operator such as ``conv``; empty asks for lines that hold everywhere.

    Raises:
        FormatError: unknown role.
    """
    if role not in ROLES:
        raise FormatError(*unknown_name("role", role, ROLES))
    for line in REFUSALS:
        if line.role == role and (not line.operators or operator in line.operators) and line.applies(format):
            return line
    return None


def refusal(format: Format, role: str, operator: str = "") -> str | None:
    """The reason why a format is refused in a role at an operator, None where it is legal; see ``refused``."""
    line = refused(format, role, operator)
    return line.reason if line else None


def require_legal(format: Format, role: str, operator: str = "", place: str = "") -> None:
    """Raise what ``refused`` finds.

    Raises:
        FormatError: the format is refused; ``place`` names the node.
    """
    line = refused(format, role, operator)
    if line is not None:
        where = f" of {operator}" if operator else ""
        raise FormatError(f"{format.name} is used for the {role}{where}", line.reason, line.remedy, place)
