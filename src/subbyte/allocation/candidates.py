"""What may be chosen for a layer: formats of weights and operands that the integer operators take.

Weights may be in groups (``int4:per_group(32)``), operands 8-bit codes kept to moving windows (``sparq4_5opt_v``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from subbyte.allocation.problem import Candidate
from subbyte.errors import AllocationError, FormatError
from subbyte.formats import get_format
from subbyte.formats.granularity import DualGrained, Granularity, PerChannel, PerGroup, get_granularity
from subbyte.formats.groups import group_count
from subbyte.formats.refusals import refused
from subbyte.formats.trims import get_trim, is_trim
from subbyte.graph.ir import Node
from subbyte.quantization.resolve import LayerChoice

WEIGHTS = ("ternary", "levels5", "int3", "levels9", "levels11", "int4", "int5", "int6", "int8")
"""Weight formats offered where nothing is said: 1.6, 2.4, 3, 3.2, 3.6, 4, 5, 6 and 8 bits in a file."""

BASE = Candidate("int8", "uint8")
"""What sensitivities are measured against; every layer may fall back to it."""


def parse_candidates(names: Sequence[str], activations: Sequence[str] = ("uint8",)) -> tuple[Candidate, ...]:
    """Candidates from texts: weights (with each of ``activations``), or ``weights/activations``.

    Weights are a format, or a format and how many of them share a scale: ``int4:per_group(32)``. Activations are a
    format or a trim. The base, 8 bits, is always among the candidates.

    Raises:
        FormatError: an unknown format, granularity or trim.
        AllocationError: nothing is named, or a trim that wants weights pruned for it.
    """
    found: dict[Candidate, None] = {}
    for name in names:
        text, slash, operand = name.partition("/")
        weights, _, groups = text.partition(":")
        granularity = str(get_granularity(groups or PerChannel.name))
        for a in (operand,) if slash else activations:
            found[
                Candidate(
                    weights=get_format(weights).name,
                    activations=_operand(a),
                    granularity="" if granularity == PerChannel.name else granularity,
                )
            ] = None
    if not found:
        raise AllocationError("no candidate is named", "a search chooses among formats", "name some, e.g. int4,int8")
    return (*(c for c in found if c != BASE), BASE)


def legal(candidates: Iterable[Candidate], node: Node) -> tuple[Candidate, ...]:
    """Those that a layer's integer operator takes."""
    return tuple(c for c in candidates if _legal(c, node.op.name))


def candidate_of(choice: LayerChoice) -> Candidate:
    """What a recipe chooses for a layer."""
    return Candidate(
        weights=choice.weights.name,
        activations=choice.trim.name if choice.trim else choice.operand.name,
        granularity="" if isinstance(choice.granularity, PerChannel) else str(choice.granularity),
    )


def weights_alone(candidate: Candidate) -> Candidate:
    """The candidate with 8-bit operands."""
    return replace(candidate, activations=BASE.activations)


def bits(candidate: Candidate) -> float:
    """Bits of one weight, as information: log2 of the levels."""
    return get_format(candidate.weights).bits


def operand_bits(candidate: Candidate) -> float:
    """Bits of the operand as it is multiplied: log2 of the levels, or of a trim those that its window keeps."""
    name = candidate.activations
    return get_trim(name).window.bits if is_trim(name) else get_format(name).bits


def stored_bytes(candidate: Candidate, shape: tuple[int, ...]) -> int:
    """Of weights [O, ...] in a file: packed codes and, of groups, scales and zero points at their largest."""
    weights, granularity = get_format(candidate.weights), _granularity(candidate)
    size = weights.packed_size(math.prod(shape))
    if not isinstance(granularity, PerGroup):
        return size
    symmetric = not isinstance(granularity, DualGrained)
    most = granularity.most(weights, symmetric)
    of_scale = (most.bit_length() - 1).bit_length() if granularity.powers else most.bit_length()
    of_zero = (
        int(weights.lo == -weights.hi - 1) if symmetric else (weights.levels - 1).bit_length()
    )  # 0 or a mirror's -1
    groups = shape[0] * group_count(shape, granularity.size)
    return size + sum(-(-groups * each // 8) for each in (of_scale, of_zero))


def _granularity(candidate: Candidate) -> Granularity:
    return get_granularity(candidate.granularity or PerChannel.name)


def _legal(candidate: Candidate, op: str) -> bool:
    weights, granularity = get_format(candidate.weights), _granularity(candidate)
    symmetric = not isinstance(granularity, DualGrained)
    if isinstance(granularity, PerGroup):
        try:
            granularity.most(weights, symmetric)
        except FormatError:
            return False
    operand = BASE.activations if is_trim(candidate.activations) else candidate.activations
    return (
        refused(weights, "weight" if symmetric else "affine_weight", op) is None
        and refused(get_format(operand), "activation", op) is None
    )


def _operand(name: str) -> str:
    if not is_trim(name):
        return get_format(name).name
    trim = get_trim(name)
    if trim.pairing == "stc":
        raise AllocationError(
            f"{name} is a candidate",
            "operands and weights are measured apart, and stc trims prune the weights that they meet",
            "use a trim that ends in _v, or put stc into a recipe",
        )
    return trim.name
