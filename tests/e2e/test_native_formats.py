"""Every format of at most 8 bits whose table fits int8 runs natively, as weight and as operand, at worst-case codes.

The graphs are built by hand, so nothing decides beforehand which formats the engine sees.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.arithmetic.requant import multiplier
from subbyte.formats import Format, get_format
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Graph, IntType, Node
from subbyte.graph.ops.conv import IntConv
from subbyte.graph.ops.linear import IntLinear
from subbyte.graph.verify import verify
from subbyte.quantization.fake_quant import stored_values
from tests.e2e.executors import check_agreement
from tests.e2e.format_nets import BUILT_IN, TABLES
from tests.limits import examples

NATIVE = [name for name in BUILT_IN if get_format(name).fits_int8 or name.startswith("uint")]
"""All of at most 8 bits whose table fits int8, as a zero point makes that of uint8."""


class Layers:
    """A graph of layers that read one input each, all in one operand format."""

    def __init__(self, weight: Format, operand: Format, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.weight, self.operand = weight, operand
        self.types: dict[str, IntType] = {}
        self.constants: dict[str, np.ndarray | QTensor] = {}
        self.nodes: list[Node] = []

    def input(self, name: str, shape: tuple[int, ...], zero_point: int) -> str:
        self.types[name] = IntType(shape=(None, *shape), format=self.operand, scale=1.0, zero_point=zero_point)
        return name

    def layer(self, op: IntConv | IntLinear, x: str, shape: tuple[int, ...]) -> None:
        """Codes are drawn from all, all the lowest and all the highest, by output channel."""
        codes = self.rng.integers(0, self.weight.levels, shape).astype(np.uint8)
        codes[0], codes[-1] = 0, self.weight.levels - 1
        name, kind = f"y{len(self.nodes)}", self.types[x]
        scale, zero = np.ones(shape[0], np.float32), self._weight_zero(shape[0])
        weight = QTensor(codes=codes, format=self.weight, scale=scale, zero_point=zero)
        sums = np.abs(weight.integers().astype(np.int64)).reshape(shape[0], -1).sum(axis=1)
        reach = max(kind.hi - kind.zero_point, kind.zero_point - kind.lo)
        pairs = np.array([multiplier(300.0 / max(int(s) * reach, 1), "m31") for s in sums], np.int32)
        bias = self.rng.integers(-1000, 1000, shape[0]).astype(np.int32)
        inputs = {"w": weight, "b": bias, "m": pairs[:, 0].copy(), "n": pairs[:, 1].copy()}
        self.constants.update({f"{name}.{role}": constant for role, constant in inputs.items()})
        names = (x, *(f"{name}.{role}" for role in inputs))
        operands = [kind, *inputs.values()]
        out = get_format("uint8")
        self.types[name] = IntType(shape=op.infer(operands), format=out, scale=1.0, zero_point=128)
        self.nodes.append(Node(name=name, op=op, inputs=names, output=name))

    def _weight_zero(self, channels: int) -> np.ndarray:
        """The lowest and the highest legal zero point and some between: re-centred weights stay in int8."""
        f = self.weight
        if not f.uniform:
            return np.zeros(channels, np.int32)
        lowest, highest = max(f.lo, f.hi - 127), min(f.hi, f.lo + 128)
        zero = self.rng.integers(lowest, highest + 1, channels)
        zero[0], zero[-1] = lowest, highest
        return zero.astype(np.int32)

    def graph(self) -> Graph:
        graph = Graph(
            name="formats",
            inputs=tuple(n for n in self.types if n.startswith("x")),
            outputs=tuple(n.output for n in self.nodes),
            types=self.types,
            constants=self.constants,
            nodes=tuple(self.nodes),
        )
        verify(graph, "integer")
        return graph


def conv(groups: int, padding: tuple[int, int, int, int]) -> IntConv:
    return IntConv(stride=(1, 1), dilation=(1, 1), padding=padding, groups=groups, lo=0, hi=255)


def layers(weight: Format, operand: Format, seed: int) -> Graph:
    """Convolutions with and without padding, depthwise, linear; odd lengths, so that every kernel has a tail."""
    g = Layers(weight, operand, seed)
    zeros = (operand.stored_lo, operand.stored_hi, int(g.rng.integers(operand.stored_lo, operand.stored_hi + 1)))
    for i, zero in enumerate(zeros):
        image = g.input(f"x{2 * i}", (4, 5, 7), zero)
        row = g.input(f"x{2 * i + 1}", (131,), zero)
        g.layer(conv(1, (1, 0, 2, 1)), image, (5, 3, 2, 7))
        g.layer(conv(1, (0, 0, 0, 0)), image, (19, 2, 3, 7))
        g.layer(conv(7, (1, 1, 1, 1)), image, (7, 3, 3, 1))
        g.layer(IntLinear(lo=0, hi=255), row, (9, 131))
    return g.graph()


def check(weight: Format, operand: Format, seed: int) -> None:
    graph = layers(weight, operand, seed)
    rng = np.random.default_rng(seed)
    legal = stored_values(operand)
    codes = {}
    for name in graph.inputs:
        drawn = rng.choice(legal, (4, *graph.types[name].shape[1:]))
        drawn[1], drawn[2] = legal[0], legal[-1]
        codes[name] = drawn.astype(np.uint8)
    values = check_agreement(graph, codes)
    assert any(len(np.unique(values[name])) > 2 for name in graph.outputs)


def test_what_is_left_out():
    assert set(BUILT_IN) - set(NATIVE) == {
        *("int16", "fp6_e3m2", "fp8_e4m3fn", "fp8_e5m2"),
        *(name for name in BUILT_IN if get_format(name).storing_alone),
    }


@pytest.mark.parametrize("start", range(6))
def test_every_format_as_weight_and_as_operand(start):
    """Each in both places in every run; uint8 is a weight by its zero point."""
    for seed, name in enumerate(NATIVE[start::6]):
        f = get_format(name)
        check(f, get_format("uint8"), seed)
        check(get_format("int8"), f, seed)


@settings(max_examples=examples(200))
@given(TABLES, TABLES, st.integers(0, 2**32 - 1))
def test_any_tables_of_signed_bytes(weight, operand, seed):
    check(Format(name="own_weight", table=weight), Format(name="own_operand", table=operand), seed)
