"""Random linear layers that find a scale for each row while they run."""

from __future__ import annotations

import numpy as np

from subbyte.arithmetic.bounds import least_pre_shift
from subbyte.graph.ops.linear_per_token import IntLinearPerToken, coded_reach
from tests.e2e.graph_maker import GraphMaker, small


def linear_per_token(g: GraphMaker) -> None:
    x = g.value(small)
    if x is None:
        return
    outputs = g.integer(1, 40)
    weight = g.weight((outputs, g.types[x].shape[-1]))
    integers = weight.integers()
    if integers.min() < -128 or integers.max() > 127:
        return
    largest = g.pick((1, 15, 30, 255))
    reach = coded_reach(g.types[x], largest)
    magnitude = float(np.abs(integers).sum(axis=1).max()) * reach
    shift = least_pre_shift(integers, -reach, reach, np.full(outputs, magnitude))
    out = g.type(())
    lo, hi = g.bounds(out)
    op = IntLinearPerToken(lo=lo, hi=hi, largest=largest, pre_shift=shift)
    inputs = (x, g.constant(weight), *g.epilogue(outputs, magnitude / 8 / 2**shift))
    g.put(op, inputs, g.shaped(op, inputs, out))
