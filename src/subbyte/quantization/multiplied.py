"""What a layer's products are made of, where that is not what its operand is stored as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from subbyte.graph.ir import IntType
from subbyte.graph.ops.centred import interval
from subbyte.graph.ops.linear_per_token import coded_reach


@dataclass(frozen=True, kw_only=True)
class CodedRows:
    """What codes of rows stand for, times the largest code: integers -reach..reach.

    Attributes:
        scale: of these integers, the stored operand's by the largest code.
        reach: largest magnitude.
    """

    scale: float
    reach: int


Multiplied: TypeAlias = IntType | CodedRows


def coded_rows(x: IntType, largest: int) -> CodedRows:
    """What rows of a stored operand become, whose largest numbers get the code ``largest``."""
    return CodedRows(scale=x.scale / largest, reach=coded_reach(x, largest))


def ends(x: Multiplied) -> tuple[int, int]:
    """Smallest and largest integer that meets weights."""
    return (-x.reach, x.reach) if isinstance(x, CodedRows) else interval(x)
