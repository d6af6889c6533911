"""One-operator graphs with worst-case contents, run on every instruction set and compared with the reference."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from subbyte import _native
from subbyte.formats.format import Format
from subbyte.formats.groups import Groups, group_count
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Constant, Graph, IntType, Node
from subbyte.graph.ops.op import Op
from subbyte.graph.verify import verify
from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference

ISAS = tuple(_native.available_isas())
Array = npt.NDArray[Any]


@contextmanager
def isa(name: str) -> Iterator[None]:
    """Engines built inside use these kernels."""
    before = os.environ.get("SUBBYTE_ISA")
    os.environ["SUBBYTE_ISA"] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ["SUBBYTE_ISA"]
        else:
            os.environ["SUBBYTE_ISA"] = before


@cache
def uniform(lo: int, hi: int) -> Format:
    """Every integer of lo..hi."""
    return Format(name=f"all{lo}to{hi}".replace("-", "n"), table=range(lo, hi + 1))


def kind(shape: Sequence[int], fmt: Format, zero_point: int = 0) -> IntType:
    """A sample's shape with the batch in front, scale 1."""
    return IntType(shape=(None, *shape), format=fmt, scale=1.0, zero_point=zero_point)


UINT8 = uniform(0, 255)
INT16 = uniform(-32768, 32767)


@st.composite
def kinds(draw: st.DrawFn, shape: Sequence[int], storages: str = "any") -> IntType:
    """A type with a random format and zero point, extremes included; storages: any, uint8 or int16."""
    narrow = [UINT8, uniform(0, 1), uniform(0, 15), uniform(-8, 7), uniform(-1, 1), uniform(-128, 127), uniform(3, 200)]
    wide = [INT16, uniform(-300, 20000), uniform(-2048, 2047)]
    fmt = draw(st.sampled_from(narrow if storages == "uint8" else wide if storages == "int16" else narrow + wide))
    middle = (fmt.stored_lo + fmt.stored_hi) // 2
    zero = draw(st.sampled_from([fmt.stored_lo, fmt.stored_hi, middle, max(0, fmt.stored_lo)]))
    return kind(shape, fmt, zero)


@st.composite
def contents(draw: st.DrawFn, t: IntType, batch: int) -> Array:
    """Stored integers of a type: random, one extreme, or both in turn."""
    shape = (batch, *(d for d in t.shape if d is not None))
    mode = draw(st.sampled_from(["random", "random", "lowest", "highest", "turns"]))
    seed = draw(st.integers(0, 2**32 - 1))
    if mode == "random":
        return np.random.default_rng(seed).integers(t.lo, t.hi + 1, shape).astype(t.storage)
    if mode == "turns":
        return np.where(np.arange(np.prod(shape)) % 2, t.lo, t.hi).reshape(shape).astype(t.storage)
    return np.full(shape, t.lo if mode == "lowest" else t.hi, dtype=t.storage)


@st.composite
def bounds(draw: st.DrawFn, t: IntType) -> dict[str, int]:
    """Attributes lo and hi: mostly the whole range, else part of it."""
    if draw(st.booleans()):
        return {"lo": t.lo, "hi": t.hi}
    lo = draw(st.integers(t.lo, t.hi))
    return {"lo": lo, "hi": draw(st.integers(lo, t.hi))}


def multipliers(draw: st.DrawFn, count: int, ratio: float) -> tuple[Array, Array]:
    """int32 (m, n) near a ratio: m31, also where float32 holds it, m15 or shift, and now and then anything legal."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    style = draw(st.sampled_from(["m31", "float32", "m15", "shift", "any"]))
    if style == "any":
        m = np.where(rng.random(count) < 0.1, -(2**31), rng.integers(-(2**31), 2**31, count))
        n = np.where(rng.random(count) < 0.1, 1, rng.integers(1, 63, count))
        return m.astype(np.int32), n.astype(np.int32)
    bits = {"m31": 30, "float32": 30, "m15": 14, "shift": 0}[style]
    low, high = 2**bits, 2 ** (bits + 1) if bits else 2
    m = rng.integers(low, high, count) & (-128 if style == "float32" else -1)
    n = np.clip(np.rint(bits - np.log2(ratio) + rng.uniform(-2, 3, count)), 1, 62)
    return m.astype(np.int32), n.astype(np.int32)


@st.composite
def weights(draw: st.DrawFn, shape: Sequence[int]) -> QTensor:
    """``plain_weights``, half of them in groups."""
    weight = draw(plain_weights(shape))
    return draw(in_groups(weight)) if draw(st.booleans()) else weight


@st.composite
def plain_weights(draw: st.DrawFn, shape: Sequence[int]) -> QTensor:
    """Weights of a random format: int8 with extremes, few levels, gaps, mirrored grids, or zero points per channel."""
    fmt = draw(
        st.sampled_from(
            [
                uniform(-128, 127),
                uniform(-64, 63),
                uniform(-8, 7),
                uniform(-1, 1),
                Format(name="gaps", table=(-2, -1, 0, 1, 2, 4)),
                Format(name="signs", table=(-1, 1)),
                Format(name="wide_steps", table=(-128, -60, 7, 127)),
                uniform(-16, 15),
                uniform(0, 100),
            ]
        )
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mode = draw(st.sampled_from(["random", "random", "lowest", "highest"]))
    low, high = {"random": (0, fmt.levels), "lowest": (0, 1), "highest": (fmt.levels - 1, fmt.levels)}[mode]
    codes = rng.integers(low, high, shape).astype(np.uint8)
    channels = shape[0]
    zero = np.zeros(channels)
    if draw(st.booleans()):
        if fmt.lo == 0:
            zero = rng.integers(0, 27, channels)
        elif fmt.uniform and fmt.lo == -fmt.hi - 1 and fmt.hi < 127:
            zero = rng.integers(-1, 1, channels)  # mirrored grids
    return QTensor(
        codes=codes, format=fmt, scale=np.ones(channels, dtype=np.float32), zero_point=zero.astype(np.int32), axis=0
    )


@st.composite
def in_groups(draw: st.DrawFn, weight: QTensor) -> QTensor:
    """The weight with integer scales and zero points of groups, of any size, as large as int8 lets them be."""
    inputs = weight.codes.size // len(weight.codes)
    size = draw(st.one_of(st.integers(1, 9), st.sampled_from([32, 64, max(1, inputs - 1), inputs, inputs + 1, 2**24])))
    shape = len(weight.codes), group_count(weight.shape, size)
    values = weight.format.integers
    apart = np.array([max(values[-1] - z, z - values[0], 1) for z in weight.zero_point])[:, None]
    most = np.broadcast_to(np.maximum(127 // apart, 1), shape)
    seed = draw(st.integers(0, 2**32 - 1))
    ways = {"random": np.random.default_rng(seed).integers(1, most + 1), "least": np.ones(shape), "most": most}
    scale = np.ascontiguousarray(ways[draw(st.sampled_from(sorted(ways)))], dtype=np.int32)
    zero = np.repeat(weight.zero_point[:, None], shape[1], axis=1)
    return replace(weight, zero_point=zero, groups=Groups(size=size, scale=scale))


@dataclass(frozen=True)
class Case:
    """A graph and what is fed to it."""

    graph: Graph
    codes: Mapping[str, Array] = field(default_factory=dict)


def one_op(op: Op, types: Sequence[IntType], out: IntType, constants: Sequence[Constant] = ()) -> Graph:
    """A graph of one operator whose constants follow its values; verified."""
    values = {f"x{i}": t for i, t in enumerate(types)}
    fixed = {f"c{i}": c for i, c in enumerate(constants)}
    node = Node(name="n", op=op, inputs=(*values, *fixed), output="y")
    graph = Graph(
        name="g", inputs=tuple(values), outputs=("y",), types={**values, "y": out}, constants=fixed, nodes=(node,)
    )
    verify(graph, "integer")
    return graph


def feed(draw: st.DrawFn, graph: Graph) -> Case:
    """Random contents for every input, in a batch of 1 to 5."""
    batch = draw(st.integers(1, 5))
    codes = {}
    for name in graph.inputs:
        t = graph.types[name]
        assert isinstance(t, IntType)
        codes[name] = draw(contents(t, batch))
    return Case(graph, codes)


WAYS = (
    {"weights": "packed", "family": "dot"},
    {"weights": "unpacked", "family": "dot"},
    {"family": "lookup"},
    {"family": "bit_planes"},
)
"""How an engine may compute: all give the same integers."""


def agree(case: Case) -> None:
    """Every instruction set, every way to keep weights and to multiply, and one and two threads give the reference.

    Intermediate values too.
    """
    expected = run_reference(case.graph, case.codes, keep=True)
    first = {name: codes[:1] for name, codes in case.codes.items()}
    for name, way in product(ISAS, WAYS):
        with isa(name):
            engine = Engine(case.graph, **way)
        assert engine.isa == name
        if way.get("family") not in {"dot", *engine.families.values()}:
            continue
        for threads in (1, 2):
            for value, codes in engine.run(case.codes, threads=threads).items():
                assert codes.dtype == expected[value].dtype
                np.testing.assert_array_equal(codes, expected[value], f"{value} on {name}, {threads} threads")
            for value, codes in engine.run(first, threads=threads).items():
                np.testing.assert_array_equal(codes, expected[value][:1], f"{value} on {name}, one sample")
        for value, codes in engine.run_all(case.codes).items():
            np.testing.assert_array_equal(codes, expected[value], f"{value} on {name}, all values kept")
