"""Operators of nets without scales, drawn to fit the graph that they are added to; see ``random_operators.py``."""

from __future__ import annotations

from collections.abc import Callable

from subbyte.errors import LoweringError
from subbyte.formats import get_format
from subbyte.graph.ir import IntType
from subbyte.graph.ops.channel_stack import IntChannelStack
from subbyte.graph.ops.linear_norm import IntLinearArgmax, IntLinearNorm
from tests.e2e.graph_maker import WIDE, GraphMaker, small


def _without_bias(g: GraphMaker, x: str) -> str:
    """Weights of a few outputs, whose sums fit int32."""
    return g.constant(g.plain_weight((g.integer(1, 24), g.types[x].shape[-1])))


def _linear_norm(g: GraphMaker) -> None:
    x = g.value(small)
    if x is None:
        return
    op = IntLinearNorm(hi=g.pick((1, 15, 127, 255)))
    inputs = (x, _without_bias(g, x))
    out = IntType(shape=(), format=g.pick((get_format("uint8"), WIDE)), scale=1.0, zero_point=0)
    g.put(op, inputs, g.shaped(op, inputs, out))


def _linear_argmax(g: GraphMaker) -> None:
    x = g.value(lambda t: small(t) and len(t.shape) > 2)
    if x is None:
        return
    inputs = (x, _without_bias(g, x))
    out = IntType(shape=(), format=WIDE, scale=1.0, zero_point=0)
    g.put(IntLinearArgmax(), inputs, g.shaped(IntLinearArgmax(), inputs, out))


def _channel_stack(g: GraphMaker) -> None:
    x = g.value(lambda t: small(t) and len(t.shape) == 3)
    if x is None:
        return
    sides, kernels, pools = list(g.types[x].shape[1:]), [], []
    for _ in range(g.integer(1, 3)):
        kernels.append(g.integer(1, min(*sides, 3)))
        sides = [side - kernels[-1] + 1 for side in sides]
        pools.append(g.integer(1, min(*sides, 2)))
        sides = [side // pools[-1] for side in sides]
    shifts = tuple(g.integer(4, 12) for _ in kernels)
    op = IntChannelStack(kernels=tuple(kernels), shifts=shifts, pools=tuple(pools), hi=g.pick((1, 127, 255)))
    inputs = (x, g.constant(g.plain_weight((g.integer(1, 24), sum(k * k for k in kernels)))))
    try:
        op.largest_sums([g.types[x], g.constants[inputs[1]]])
    except LoweringError:
        del g.constants[inputs[1]]
        return
    out = IntType(shape=(), format=g.pick((get_format("uint8"), WIDE)), scale=1.0, zero_point=0)
    g.put(op, inputs, g.shaped(op, inputs, out))


MAKERS: dict[str, Callable[[GraphMaker], None]] = {
    "int_linear_norm": _linear_norm,
    "int_linear_argmax": _linear_argmax,
    "int_channel_stack": _channel_stack,
}
