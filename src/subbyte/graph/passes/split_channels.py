"""Make a channel twice, each copy carrying half of it, so that its extremes shrink."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
import numpy.typing as npt

from subbyte.graph.ir import FloatType, Graph, float_shape
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.pad import Pad
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.passes.links import Link, Reals, links
from subbyte.graph.passes.protocol import PassResult
from subbyte.graph.passes.rewriter import Rewriter

Places = npt.NDArray[np.int64]


@final
@dataclass(frozen=True)
class SplitChannels:
    """Copies of channels in the layer that makes them; the readers' weights for channel and copies are shared out.

    Source: Zhao et al. 2019, "Improving Neural Network Quantization without Retraining using Outlier Channel
    Splitting", section 3. The function stays the same: x w = x (w / n) n times.

    Attributes:
        sources: by name of a link's maker, which of its channels each channel of the new value is; the first ones are
            the old channels in order, the rest copies. Links that cannot split (see ``splits``) are left alone.
        offsets: by name of a link's maker with a bias, what is added to each channel of the new value before the
            maker's activation; the function stays the same as far as copies' offsets cancel behind it.
    """

    sources: Mapping[str, Places] = field(default_factory=dict)
    offsets: Mapping[str, Reals] = field(default_factory=dict)
    name: str = "split_channels"
    requires: frozenset[str] = frozenset({"channels_last"})
    ensures: frozenset[str] = frozenset()

    def __call__(self, graph: Graph) -> PassResult:
        rewriter = Rewriter(graph)
        for link in links(graph):
            sources = self.sources.get(link.maker.name)
            if sources is not None and len(sources) > link.channels and splits(link):
                _split(rewriter, link, sources, self.offsets.get(link.maker.name))
        return rewriter.finish()


def splits(link: Link) -> bool:
    """Whether channels can be added: nothing ties output channels of a link's ends to input channels one by one."""
    ends = (link.maker, *link.readers)
    return not any(isinstance(n.op, Affine) or (isinstance(n.op, Conv) and n.op.groups > 1) for n in ends)


def _split(rewriter: Rewriter, link: Link, sources: Places, offsets: Reals | None) -> None:
    counts = np.bincount(sources, minlength=link.channels)[sources].astype(np.float64)
    maker = rewriter.node(link.maker.name)
    made = [rewriter.known_array(n)[sources] for n in maker.inputs[1:]]  # links are of constants
    if offsets is not None:
        made[1] = made[1] + offsets
    more = [rewriter.revise(n, array) for n, array in zip(maker.inputs[1:], made, strict=True)]
    rewriter.replace(maker, inputs=[maker.inputs[0], *more])
    _widen(rewriter, maker.output, len(sources))
    for mover in link.movers:
        node = rewriter.node(mover.name)
        rewriter.replace(node, op=_wider(node.op, len(sources)))
        _widen(rewriter, node.output, len(sources))
    for reader in link.readers:
        node = rewriter.node(reader.name)
        shared = rewriter.known_array(node.inputs[1])[..., sources] / counts
        rewriter.replace(node, inputs=[node.inputs[0], rewriter.revise(node.inputs[1], shared), *node.inputs[2:]])


def _widen(rewriter: Rewriter, value: str, channels: int) -> None:
    rewriter.types[value] = FloatType(shape=(*float_shape(rewriter.types[value])[:-1], channels))


def _wider(op: Op, channels: int) -> Op:
    """A mover as it works on more channels."""
    if isinstance(op, Reshape):
        return replace(op, shape=(*op.shape[:-1], channels))
    assert not isinstance(op, Pad) or op.before[-1] == op.after[-1] == 0  # so links are followed
    return op
