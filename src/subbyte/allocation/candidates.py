"""What may be chosen for a layer: formats of weights and operands that the integer operators take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from subbyte.allocation.problem import Candidate
from subbyte.errors import AllocationError
from subbyte.formats import get_format
from subbyte.formats.refusals import refused
from subbyte.graph.ir import Node

WEIGHTS = ("ternary", "levels5", "int3", "levels9", "levels11", "int4", "int5", "int6", "int8")
"""Weight formats offered where nothing is said: 1.6, 2.4, 3, 3.2, 3.6, 4, 5, 6 and 8 bits in a file."""

BASE = Candidate("int8", "uint8")
"""What sensitivities are measured against; every layer may fall back to it."""


def parse_candidates(names: Sequence[str], activations: Sequence[str] = ("uint8",)) -> tuple[Candidate, ...]:
    """Candidates from texts: a weight format (with each of ``activations``), or ``weights/activations``.

    The base, 8 bits, is always among them.

    Raises:
        FormatError: an unknown format.
        AllocationError: nothing is named.
    """
    found: dict[Candidate, None] = {}
    for name in names:
        weights, slash, operand = name.partition("/")
        for a in (operand,) if slash else activations:
            found[Candidate(get_format(weights).name, get_format(a).name)] = None
    if not found:
        raise AllocationError("no candidate is named", "a search chooses among formats", "name some, e.g. int4,int8")
    return (*(c for c in found if c != BASE), BASE)


def legal(candidates: Iterable[Candidate], node: Node) -> tuple[Candidate, ...]:
    """Those that a layer's integer operator takes."""
    return tuple(
        c
        for c in candidates
        if refused(get_format(c.weights), "weight", node.op.name) is None
        and refused(get_format(c.activations), "activation", node.op.name) is None
    )


def bits(candidate: Candidate) -> float:
    """Bits of one weight, as information: log2 of the levels."""
    return get_format(candidate.weights).bits
