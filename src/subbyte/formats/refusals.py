"""Which format may play which role at which operator: the one reviewed list of refusals.

What this list lets pass runs in all three executors (NumPy reference, torch, native); there is no format that one of
them takes and another refuses, so the list has no column for executors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from subbyte.errors import FormatError, unknown_name
from subbyte.formats.format import Format

Role = Literal["weight", "affine_weight", "activation"]
ROLES: tuple[str, ...] = get_args(Role)

LAYERS = ("conv", "linear")
PADDED = ("padded_conv", "padded_avg_pool", "pad")
"""A convolution or pool with padding, named apart from one without."""

EVERYWHERE: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """One line of the list.

    Attributes:
        role: ``weight`` (zero point 0), ``affine_weight`` (with zero points), ``activation``.
        operators: where it holds; empty is everywhere. ``padded_conv`` is a convolution with padding.
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


_TOO_MANY = Refusal(
    role="weight",
    operators=EVERYWHERE,
    formats="more than 256 levels (int16)",
    applies=lambda f: f.levels > 256,
    reason="codes of weights are bytes",
    remedy="use int8 or fewer bits for weights",
)

REFUSALS: tuple[Refusal, ...] = (
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
        role="weight",
        operators=EVERYWHERE,
        formats="a value outside -128..127",
        applies=lambda f: not f.fits_int8,
        reason="kernels multiply weights as int8",
        remedy="use a table inside -128..127; halve all values if they share a factor",
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
        formats="values that are not consecutive (binary, midrise<bits>, own tables)",
        applies=lambda f: not f.uniform,
        reason="a zero point shifts the table, and only consecutive values can be shifted onto 0",
        remedy="use symmetric=True, or a format of consecutive values such as int4",
    ),
    Refusal(
        role="activation",
        operators=PADDED,
        formats="not consecutive and without a zero (binary, midrise<bits>)",
        applies=lambda f: not f.uniform and not f.has_zero,
        reason="padding is the real number 0, and the format has no code for it",
        remedy="use uint<bits>, int<bits> or levels<N> for activations",
    ),
    Refusal(
        role="activation",
        operators=EVERYWHERE,
        formats="values that are not consecutive (binary, midrise<bits>, own tables)",
        applies=lambda f: not f.uniform,
        reason="a layer's result is rescaled, rounded and clamped to consecutive integers",
        remedy="use uint<bits>, int<bits> or levels<N> for activations; the format may be used for weights",
    ),
    Refusal(
        role="activation",
        operators=(*LAYERS, "padded_conv", "int_lut"),
        formats="more than 256 levels (int16)",
        applies=lambda f: f.storage != "uint8",
        reason="kernels multiply activations as bytes, and tables of unary functions have 256 entries",
        remedy="use a format of at most 8 bits here; int16 is for outputs, sums and softmax",
    ),
)


def refused(format: Format, role: str, operator: str = "") -> Refusal | None:
    """The first line of the list that speaks against a format in a role, None where it is legal.

    Args:
        format: number format.
        role: ``weight``, ``affine_weight`` or ``activation``.
        operator: ``conv``, ``padded_conv``, ``linear``, ``int_lut``, ...; empty asks for lines that hold everywhere.

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
