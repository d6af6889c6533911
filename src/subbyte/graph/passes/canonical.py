"""The list of passes that makes an imported network ready for ranges, quantization and lowering."""

from __future__ import annotations

from subbyte.graph.ir import Graph
from subbyte.graph.passes.batchnorm_to_affine import BatchNormToAffine
from subbyte.graph.passes.channels_last import ChannelsLast
from subbyte.graph.passes.constants_to_affine import ConstantsToAffine
from subbyte.graph.passes.dead_code import DeadCode
from subbyte.graph.passes.fold_batchnorm import FoldBatchNorm
from subbyte.graph.passes.fold_constants import FoldConstants
from subbyte.graph.passes.fold_pad import FoldPad
from subbyte.graph.passes.fuse_activation import FuseActivation
from subbyte.graph.passes.merge_affine import MergeAffine
from subbyte.graph.passes.merge_movement import MergeMovement
from subbyte.graph.passes.protocol import Pass, run_passes
from subbyte.graph.passes.remove_identity import RemoveIdentity
from subbyte.graph.passes.widen_1d import Widen1d
from subbyte.graph.verify import verify

_MERGE: tuple[Pass, ...] = (FoldPad(), ConstantsToAffine(), MergeAffine(), FuseActivation())
_TIDY: tuple[Pass, ...] = (MergeMovement(), RemoveIdentity(), DeadCode())

CANONICAL: tuple[Pass, ...] = (
    FoldConstants(),
    *_TIDY,
    FoldBatchNorm(),
    BatchNormToAffine(),
    *_MERGE,
    Widen1d(),
    ChannelsLast(),
    *_TIDY,
    *_MERGE,  # once more: layers and activations that a transpose kept apart are neighbours now
    DeadCode(),
)
"""In order. What the result has: ``PREPARED``."""

PREPARED = frozenset(
    {"folded_constants", "no_identity", "no_dead_code", "no_batch_norm", "spatial_2d", "channels_last"}
)
"""Properties of a prepared graph."""


def prepare(graph: Graph) -> Graph:
    """The same function as ``graph`` in the form that the rest of the system expects.

    Args:
        graph: float dialect, as a front end built it.

    Returns:
        A graph with the properties ``PREPARED``; names, order, shapes and layout of inputs and outputs unchanged.

    Raises:
        GraphError: the graph breaks an invariant, or something in it has no channels-last or folded form.
    """
    folded = FoldConstants()(graph).graph
    verify(folded, "float")
    return run_passes(folded, CANONICAL).graph
