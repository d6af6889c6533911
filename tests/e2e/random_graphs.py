"""Random integer graphs over every operator: formats, zero points, paddings and tails drawn at random.

A graph starts from one or two inputs and grows by operators whose operands are values made before, so that residual
branches and concats occur on their own; some are forced. Weights, multipliers and input codes take extreme values
often.
"""

from __future__ import annotations

import numpy as np

from subbyte.graph.ir import Graph
from tests.e2e.graph_maker import GraphMaker, legal
from tests.e2e.random_operators import LAYERS, MAKERS, concat, residual


def random_graph(seed: int, length: int = 10) -> Graph:
    """The graph of a seed, verified, of about ``length`` nodes."""
    g = GraphMaker(seed)
    for i in range(g.integer(1, 2)):
        g.input(f"in{i}")
    makers = [*MAKERS.values(), *LAYERS]
    for _ in range(20 * length):
        if len(g.nodes) < length:
            g.pick(makers)(g)
    if g.coin():
        residual(g)
        concat(g)
    return g.graph()


def random_codes(graph: Graph, seed: int, batch: int) -> dict[str, np.ndarray]:
    """Input codes: uniform, or all at one extreme."""
    rng = np.random.default_rng(seed)
    codes = {}
    for name in graph.inputs:
        t = graph.types[name]
        shape = (batch, *t.shape[1:])
        mode = rng.random()
        drawn = rng.choice(legal(t.format), shape)
        if mode < 0.2:
            drawn = np.full(shape, t.hi)
        elif mode < 0.4:
            drawn = np.full(shape, t.lo)
        codes[name] = drawn.astype(t.storage)
    return codes
