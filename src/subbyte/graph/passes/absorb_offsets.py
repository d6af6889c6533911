"""Move what a channel always has at least from the layer that makes it into the biases of those that read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import numpy as np

from subbyte.graph.ir import Graph
from subbyte.graph.ops.avg_pool import AvgPool
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.pad import Pad
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.passes.links import End, Link, Reals, homogeneous, links, of_constants, rectify_of
from subbyte.graph.passes.protocol import PassResult
from subbyte.graph.passes.rewriter import Rewriter


@final
@dataclass(frozen=True)
class AbsorbOffsets:
    """``relu(v - c) + c = relu(v)`` where v >= c >= 0: b1 becomes b1 - c, and b2 becomes b2 + W2 c.

    Exact for every input whose v does not fall below c. Source: Nagel et al. 2019, "Data-Free Quantization", section
    4.1.3. There borders are neglected; here links with zero padding are left alone, because padding is 0 and not c.

    Attributes:
        offsets: c by name of a link's maker, one per channel; what is negative counts as 0. Makers that cannot give
            anything away (another activation, padding behind them) are left alone.
    """

    offsets: Mapping[str, Reals] = field(default_factory=dict)
    name: str = "absorb_offsets"
    requires: frozenset[str] = frozenset({"channels_last"})
    ensures: frozenset[str] = frozenset()

    def __call__(self, graph: Graph) -> PassResult:
        rewriter = Rewriter(graph)
        for link in links(graph):
            offsets = np.maximum(self.offsets.get(link.maker.name, np.zeros(1)), 0.0)
            if np.any(offsets > 0) and absorbs(link):
                _absorb(rewriter, link, offsets)
        return rewriter.finish()


def absorbs(link: Link) -> bool:
    """Whether a constant on a channel arrives at every reader as that constant, and in the maker's bias."""
    rectify = rectify_of(link.maker)
    has_bias = len(link.maker.inputs) == 3
    return has_bias and homogeneous(rectify) and all(_keeps_constants(n.op) for n in (*link.movers, *link.readers))


def _keeps_constants(op: Op) -> bool:
    if isinstance(op, Conv):
        return not any(op.padding)
    if isinstance(op, AvgPool):
        return not any(op.padding) or not op.count_include_pad
    return not isinstance(op, Pad | Rectify)


def _absorb(rewriter: Rewriter, link: Link, offsets: Reals) -> None:
    maker = rewriter.node(link.maker.name)
    bias = rewriter.known_array(maker.inputs[2])  # links are found between constants alone
    rewriter.replace(maker, inputs=[*maker.inputs[:2], rewriter.revise(maker.inputs[2], bias - offsets)])
    for end in link.readers:
        node = rewriter.node(end.name)
        assert isinstance(node.op, End)
        more = of_constants(rewriter.known_array(node.inputs[1]), node.op, offsets)
        if len(node.inputs) == 3:
            name = rewriter.revise(node.inputs[2], rewriter.known_array(node.inputs[2]) + more)
        else:
            name = rewriter.constant(f"{node.name}.bias", more)
        rewriter.replace(node, inputs=[*node.inputs[:2], name])
