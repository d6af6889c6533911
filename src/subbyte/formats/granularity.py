"""How many values share one scale.

A tensor, a channel along an axis, or a group of weights of one output channel. Groups have integers as scales, beside
the one real scale of their channel: ``real = scale * group_scale * (table[code] - zero_point)``, so that a sum over
all groups is a sum of integers and is rescaled once. Which weights form a group is said in ``groups.py``.

Of what layers multiply: a tensor, or a token, which is a row of a linear layer's operand; its scale is found while the
network runs, see ``arithmetic/per_token.py``.

Sources: per group with zero points, "dual grained": Zhang et al. 2023, "Dual Grained Quantization" (arXiv 2310.04836)
and its code; MX: "OCP Microscaling Formats (MX) Specification" v1.0, section 5.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.errors import FormatError, unknown_name
from subbyte.formats.groups import LIMIT, MOST_SIZE

if TYPE_CHECKING:
    from subbyte.formats.format import Format


@dataclass(frozen=True)
class PerTensor:
    """One scale for the whole tensor."""

    name = "per_tensor"
    axis = 0

    def __str__(self) -> str:
        return self.name

    def scale_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of scale and zero point: ()."""
        del shape
        return ()

    def rows(self, array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The values that share a scale as rows: [1, everything]."""
        return array.reshape(1, -1)


@dataclass(frozen=True)
class PerChannel:
    """One scale for each index along ``axis`` (the output channel of a weight is axis 0)."""

    axis: int = 0
    name = "per_channel"

    def __str__(self) -> str:
        return self.name

    def scale_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of scale and zero point: (shape[axis],).

        Raises:
            FormatError: the tensor has no such axis.
        """
        if not 0 <= self.axis < len(shape):
            raise FormatError(
                f"scales per channel along axis {self.axis} of a tensor of shape {list(shape)}",
                "the axis is 0 or more and below the rank",
                "name the output-channel axis, or use per_tensor",
            )
        return (shape[self.axis],)

    def rows(self, array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The values that share a scale as rows: [channels, everything else]."""
        return np.moveaxis(array, self.axis, 0).reshape(array.shape[self.axis], -1)


@dataclass(frozen=True)
class PerGroup:
    """An integer scale for each ``size`` weights of an output channel, axis 0; every code stays within int8.

    Raises:
        FormatError: the size is no integer in 1..2**24.
    """

    size: int
    axis = 0
    name = "per_group"
    powers = False

    def __post_init__(self) -> None:
        if type(self.size) is not int or not 1 <= self.size <= MOST_SIZE:
            raise FormatError(f"groups of {self.size!r}", f"a group has 1..{MOST_SIZE} weights", "try 32, 64 or 128")

    def __str__(self) -> str:
        return f"{self.name}({self.size})"

    def scale_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the real scales: (shape[0],).

        Raises:
            FormatError: the tensor is a vector, whose channels have no inputs.
        """
        if len(shape) < 2:
            raise FormatError(
                f"{self} of a tensor of shape {list(shape)}",
                "groups divide the inputs of an output channel, so a tensor has two axes or more",
                "use per_tensor for vectors",
            )
        return (shape[0],)

    def rows(self, array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The values that share a real scale as rows: [channels, inputs]."""
        return array.reshape(array.shape[0], -1)

    def most(self, format: Format, symmetric: bool = True) -> int:
        """The largest group scale with which the whole table stays within +-127.

        Raises:
            FormatError: that is 1, which leaves groups nothing to choose.
        """
        reach = format.max_abs if symmetric else (format.hi - format.lo + 1) // 2
        most = LIMIT // max(reach, 1)
        if most < 2:
            raise FormatError(
                f"{self} of {format.name}, whose values reach {reach}",
                f"a group scale of 2 or more times the table lies within +-{LIMIT}, because kernels multiply int8",
                "use per_channel for this format, or one of at most 6 bits",
            )
        return most


@dataclass(frozen=True)
class DualGrained(PerGroup):
    """Group scales of 1..127 whatever the table; codes whose integers would leave +-127 are not used in their group.

    Unless symmetric, every group has a zero point of its own.
    """

    name = "dual_grained"

    def most(self, format: Format, symmetric: bool = True) -> int:
        """The largest group scale: 127.

        Raises:
            FormatError: the format's values are not consecutive, or too many for scales to matter.
        """
        if not format.uniform:
            raise FormatError(
                f"{self} of {format.name}",
                "dual-grained codes are consecutive integers with a zero point",
                "use per_group for codebooks, powers of two and small floats",
            )
        super().most(format, symmetric)
        return LIMIT


@dataclass(frozen=True)
class Mx(PerGroup):
    """Blocks whose scales are powers of two: of one channel at most as far apart as its integers fit +-127.

    A block's scale is ``scale * group_scale``, both powers of two (E8M0). What the specification lets lie further apart
    is brought nearer, which makes small blocks coarser.
    """

    size: int = 32
    name = "mx"
    powers = True

    def most(self, format: Format, symmetric: bool = True) -> int:
        """The largest power of two with which the whole table stays within +-127.

        Raises:
            FormatError: zero points are asked for, which MX has not, or there is room for no power of two but 1.
        """
        if not symmetric:
            raise FormatError(f"{self} with zero points", "MX blocks have a scale and no zero point", "use symmetric")
        return int(2 ** (super().most(format).bit_length() - 1))


Granularity: TypeAlias = PerTensor | PerChannel | PerGroup
GRANULARITIES: tuple[str, ...] = (PerTensor.name, PerChannel.name, "per_group(32)", "dual_grained(64)", Mx.name)
"""One spelling of each; sizes may be any."""


_GROUPED = {kind.name: kind for kind in (PerGroup, DualGrained, Mx)}


def granularities(format: Format, symmetric: bool = True) -> tuple[str, ...]:
    """Those of ``GRANULARITIES`` that weights of a format may have."""
    return tuple(name for name in GRANULARITIES if _takes(get_granularity(name), format, symmetric))


def _takes(granularity: Granularity, format: Format, symmetric: bool) -> bool:
    if isinstance(granularity, PerGroup):
        try:
            granularity.most(format, symmetric)
        except FormatError:
            return False
    return True


PER_TOKEN = "per_token"
OPERAND_GRANULARITIES: tuple[str, ...] = (PerTensor.name, PER_TOKEN)
"""Of what layers multiply."""


def largest_row_code(format: Format) -> int:
    """Code of a row's largest number where an operand of this format has one scale per token; the smallest gets 0.

    That is one below the format's levels, whatever its own middle: 255 for ``uint8`` and ``int8``, 15 for ``uint4``, 30
    for ``levels31``.

    Raises:
        FormatError: the format's values are not consecutive, or more than 256.
    """
    if not format.uniform or format.levels > 256:
        raise FormatError(
            f"{PER_TOKEN} of {format.name}",
            "rows with scales of their own become 2 to 256 consecutive codes",
            "use an operand of 1 to 8 bits such as uint8 or uint4, or per_tensor",
        )
    return format.levels - 1


def operand_granularities(format: Format) -> tuple[str, ...]:
    """Those of ``OPERAND_GRANULARITIES`` that operands of a format may have."""
    try:
        largest_row_code(format)
    except FormatError:
        return OPERAND_GRANULARITIES[:1]
    return OPERAND_GRANULARITIES


def get_granularity(name: str, axis: int = 0) -> Granularity:
    """The granularity of a recipe's word: ``per_channel``, ``per_group(32)``, ``mx`` (blocks of 32), ``mx(16)``, ...

    Raises:
        FormatError: unknown, with near misses, or a size that is none.
    """
    if name == PerTensor.name:
        return PerTensor()
    if name == PerChannel.name:
        return PerChannel(axis)
    if name == Mx.name:
        return Mx()
    sized = re.fullmatch(r"(\w+)\((\d{1,9})\)", name)
    if sized and sized[1] in _GROUPED:
        return _GROUPED[sized[1]](int(sized[2]))
    raise FormatError(*unknown_name("granularity", name, GRANULARITIES))
