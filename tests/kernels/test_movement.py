"""Operators that move numbers, and the borders and shared buffers around them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.formats.format import Format
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Graph, IntType, Node
from subbyte.graph.ops.add import IntAdd
from subbyte.graph.ops.concat import Concat
from subbyte.graph.ops.conv import IntConv
from subbyte.graph.ops.identity import Identity
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.pad import IntPad
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.ops.resize_nearest import ResizeNearest
from subbyte.graph.ops.slice import Slice
from subbyte.graph.ops.transpose import Transpose
from subbyte.graph.verify import verify
from subbyte.runtime.engine import Engine
from tests.kernels import parity
from tests.limits import examples

SHAPES = st.lists(st.one_of(st.integers(1, 6), st.sampled_from([1, 17, 40])), min_size=1, max_size=5).filter(
    lambda s: np.prod(s) <= 20000
)


def moved(draw: st.DrawFn, op: Op, *types: IntType) -> parity.Case:
    """The operator on operands of one quantization."""
    shape = [d for d in op.infer(types) if d is not None]
    y = parity.kind(shape, types[0].format, types[0].zero_point)
    return parity.feed(draw, parity.one_op(op, types, y))


@st.composite
def movements(draw: st.DrawFn) -> parity.Case:
    x = draw(parity.kinds(draw(SHAPES)))
    sizes = [d for d in x.shape if d is not None]
    name = draw(st.sampled_from(["transpose", "slice", "pad", "reshape", "identity", "concat", "resize"]))
    if name == "transpose":
        return moved(draw, Transpose(perm=(0, *draw(st.permutations(range(1, len(x.shape)))))), x)
    if name == "slice":
        starts = [draw(st.integers(0, d - 1)) for d in sizes]
        ends = [draw(st.integers(s + 1, d)) for s, d in zip(starts, sizes, strict=True)]
        steps = [draw(st.integers(1, 3)) for _ in sizes]
        return moved(draw, Slice(starts=(0, *starts), ends=(None, *ends), steps=(1, *steps)), x)
    if name == "pad":
        before, after = ([draw(st.integers(0, 3)) for _ in sizes] for _ in range(2))
        return moved(draw, IntPad(before=(0, *before), after=(0, *after), fill=draw(st.integers(x.lo, x.hi))), x)
    if name == "reshape":
        return moved(draw, Reshape(shape=(None, *draw(st.permutations(sizes)), 1)), x)
    if name == "identity":
        return moved(draw, Identity(), x)
    if name == "resize":
        image = parity.kind((draw(st.integers(1, 7)), draw(st.integers(1, 7)), 5), x.format, x.zero_point)
        size = draw(st.tuples(st.integers(1, 15), st.integers(1, 15)))
        return moved(draw, ResizeNearest(size=size, layout="channels_last"), image)
    axis = draw(st.integers(1, len(sizes)))
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    others = [parity.kind([*sizes[: axis - 1], n, *sizes[axis:]], x.format, x.zero_point) for n in lengths]
    return moved(draw, Concat(axis=axis), *others)


@settings(max_examples=examples(600))
@given(movements())
def test_movement(case: parity.Case) -> None:
    parity.agree(case)


@pytest.mark.parametrize("perm", list(itertools.permutations((1, 2, 3))), ids=str)
@pytest.mark.parametrize(
    "shape",
    [(2, 33, 7), (3, 17, 20), (4, 9, 40), (5, 17, 3), (17, 20, 3), (20, 1, 17), (1, 1, 40), (16, 15, 16)],
    ids=str,
)
@pytest.mark.parametrize("fmt", [parity.UINT8, parity.INT16], ids=["uint8", "int16"])
def test_planes_become_pixels(shape: tuple[int, ...], perm: tuple[int, ...], fmt: Format) -> None:
    """Up to four planes are joined; other copies whose rows would be short walk along the rows of their input."""
    x = parity.kind(shape, fmt)
    y = parity.kind([shape[axis - 1] for axis in perm], fmt)
    graph = parity.one_op(Transpose(perm=(0, *perm)), [x], y)
    codes = np.arange(2 * np.prod(shape)).reshape(2, *shape) % 251
    parity.agree(parity.Case(graph, {"x0": codes.astype(x.storage)}))


def conv3x3(rng: np.random.Generator, inputs: int, outputs: int) -> tuple[Op, dict[str, object]]:
    """A same-size convolution and its constants by role."""
    weight = QTensor(
        codes=rng.integers(0, 256, (outputs, 3, 3, inputs)).astype(np.uint8),
        format=parity.uniform(-128, 127),
        scale=np.ones(outputs, dtype=np.float32),
        zero_point=np.zeros(outputs, dtype=np.int32),
    )
    op = IntConv(stride=(1, 1), dilation=(1, 1), padding=(1, 1, 1, 1), groups=1, lo=0, hi=255)
    ones = np.ones(outputs, dtype=np.int32)
    return op, {"w": weight, "b": 1000 * ones, "m": ones << 30, "n": 39 * ones}


def network(seed: int) -> Graph:
    """Every way in which a bordered buffer is read or written: a residual block, reshapes, slices, a concat."""
    rng = np.random.default_rng(seed)
    image = parity.kind((5, 4, 6), parity.UINT8, 100)
    flat = parity.kind((120,), parity.UINT8, 100)
    turned = parity.kind((4, 5, 6), parity.UINT8, 100)
    types = {"x": image}
    constants: dict[str, object] = {"sum": np.array([2**30, 2**30], dtype=np.int32)}
    nodes: list[Node] = []

    def add(name: str, op: Op, inputs: tuple[str, ...], kind: IntType) -> None:
        nodes.append(Node(name=f"make_{name}", op=op, inputs=inputs, output=name))
        types[name] = kind

    def conv(name: str, source: str, kind: IntType) -> None:
        op, parts = conv3x3(rng, int(types[source].shape[3] or 0), int(kind.shape[3] or 0))
        constants.update({f"{name}.{role}": part for role, part in parts.items()})
        add(name, op, (source, *(f"{name}.{role}" for role in parts)), kind)

    conv("a", "x", image)
    conv("b", "a", image)
    add("r", IntAdd(n=31, lo=0, hi=255), ("b", "x", "sum"), image)
    add("t", Reshape(shape=(None, 4, 5, 6)), ("r",), turned)  # both sides have a border
    conv("c", "t", turned)
    add("f", Reshape(shape=(None, 120)), ("r",), flat)
    add("g", Reshape(shape=(None, 5, 4, 6)), ("f",), image)
    conv("d", "g", image)
    add("e", Transpose(perm=(0, 2, 1, 3)), ("c",), image)
    add("j", Concat(axis=3), ("e", "d", "r"), parity.kind((5, 4, 18), parity.UINT8, 100))
    conv("k", "j", image)
    add(
        "s",
        Slice(starts=(0, 1, 0, 2), ends=(None, 5, 4, 5), steps=(1, 2, 1, 1)),
        ("k",),
        parity.kind((2, 4, 3), parity.UINT8, 100),
    )
    graph = Graph(
        name="net", inputs=("x",), outputs=("s", "f", "j"), types=types, constants=constants, nodes=tuple(nodes)
    )
    verify(graph, "integer")
    return graph


def test_borders_and_shared_buffers() -> None:
    for seed in range(5):
        graph = network(seed)
        codes = np.random.default_rng(seed).integers(0, 256, (3, 5, 4, 6)).astype(np.uint8)
        parity.agree(parity.Case(graph, {"x": codes}))


def test_the_arena_is_shared_by_liveness() -> None:
    """A chain of any length needs no more than two buffers beside each other."""
    rng = np.random.default_rng(0)
    image = parity.kind((8, 8, 16), parity.UINT8, 0)
    types, constants, nodes = {"v0": image}, {}, []
    for i in range(12):
        op, parts = conv3x3(rng, 16, 16)
        constants.update({f"{i}.{role}": part for role, part in parts.items()})
        nodes.append(Node(name=f"n{i}", op=op, inputs=(f"v{i}", *(f"{i}.{r}" for r in parts)), output=f"v{i + 1}"))
        types[f"v{i + 1}"] = image
    graph = Graph(name="chain", inputs=("v0",), outputs=("v12",), types=types, constants=constants, nodes=tuple(nodes))
    engine = Engine(graph)
    assert engine.arena_bytes <= 2 * (10 * 10 * 16 + 128)
    codes = rng.integers(0, 256, (2, 8, 8, 16)).astype(np.uint8)
    parity.agree(parity.Case(graph, {"v0": codes}))
