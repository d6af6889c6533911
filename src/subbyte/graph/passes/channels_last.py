"""Bring all spatial operators to channels-last layout without leaving transposes between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from subbyte.graph.ir import Graph
from subbyte.graph.passes.layout_rules import apply_rule
from subbyte.graph.passes.layout_walk import LayoutWalk
from subbyte.graph.passes.protocol import PassResult


@final
@dataclass(frozen=True)
class ChannelsLast:
    """For every value the order in which it lies is carried along, and memory moves only where no rule avoids it.

    1. Convolutions, pools and resizes take and give channels last; weights [O, C, *K] become [O, *K, C].
    2. Transposes of the user's are taken into the order and vanish.
    3. Elementwise operators, pads, slices, means and softmaxes work in the order of their operand, their axes
       renumbered; operands of one add, sub, mul or concat meet in the first order that is not the user's.
    4. A reshape that works inside groups of axes whose order is intact works on memory as it lies.
    5. A linear layer behind a flattened channels-last value gets its weight's columns reordered.
    6. Elsewhere a real transpose is put in front (a reshape, if only axes of length 1 move).
    7. Inputs come and outputs go in the user's order.
    """

    name: str = "channels_last"
    requires: frozenset[str] = frozenset({"spatial_2d"})
    ensures: frozenset[str] = frozenset({"channels_last"})

    def __call__(self, graph: Graph) -> PassResult:
        walk = LayoutWalk(graph)
        for node in graph:
            apply_rule(walk, node)
        return walk.finish()
