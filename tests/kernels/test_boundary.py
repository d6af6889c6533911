"""Reals in, reals out: the native boundary against its definition in NumPy, bit for bit, on every instruction set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import subbyte as sb
from subbyte.arithmetic import boundary
from subbyte.errors import RunError
from subbyte.formats.format import Format
from subbyte.graph.ir import Graph, IntType, Node
from subbyte.graph.ops.argmax import Argmax
from subbyte.graph.ops.identity import Identity
from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference
from tests.kernels import parity
from tests.limits import examples
from tests.runtime.small_models import branched_model

SMALLEST = float(np.float32(2.0**-149))
LARGEST = float(np.finfo(np.float32).max)
KINDS = [
    (parity.UINT8, 0),
    (parity.UINT8, 128),
    (parity.UINT8, 255),
    (parity.uniform(0, 15), 7),
    (parity.uniform(3, 200), 11),
    (parity.INT16, 0),
    (parity.INT16, -32768),
    (parity.INT16, 32767),
    (parity.uniform(-300, 20000), 19999),
]


def echo(n: int, fmt: Format, zero_point: int, scale: float) -> Graph:
    """A network that gives back its input: reals go in, become integers, and come out as reals."""
    kind = replace(parity.kind((n,), fmt, zero_point), scale=scale)
    return parity.one_op(Identity(), [kind], kind)


def defined(kind: IntType, x: parity.Array) -> parity.Array:
    """The reals that the input comes back as."""
    codes = boundary.quantize(x, kind.scale, kind.zero_point, kind.lo, kind.hi, kind.storage)
    with np.errstate(over="ignore"):
        return boundary.dequantize(codes, kind.scale, kind.zero_point)


def agree(graph: Graph, x: parity.Array) -> None:
    """Every instruction set gives the very bits of the definition."""
    kind = graph.types["x0"]
    assert isinstance(kind, IntType)
    expected = defined(kind, x).view(np.uint32)
    for name in parity.ISAS:
        with parity.isa(name):
            model = sb.QuantizedModel(graph, {})
            got = model(x)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got.view(np.uint32), expected, name)


def hard_reals(kind: IntType) -> parity.Array:
    """Every half between two steps with its neighbours, both zeros, denormals, and the largest numbers."""
    steps = np.arange(kind.lo - kind.zero_point - 3, kind.hi - kind.zero_point + 3, dtype=np.float64)
    with np.errstate(over="ignore"):
        halves = ((steps + 0.5) * kind.scale).astype(np.float32)
    halves = halves[np.isfinite(halves)]
    below, above = np.nextafter(halves, -np.inf), np.nextafter(halves, np.inf)
    special = [0.0, -0.0, SMALLEST, -SMALLEST, 2.0**-126, -(2.0**-127), LARGEST, -LARGEST, 2.0**23, 2.0**31, -(2.0**63)]
    x = np.concatenate([halves, below, above, np.array(special, np.float32)]).astype(np.float32)
    return x[np.isfinite(x)][None]


@pytest.mark.parametrize("scale", [1.0, 0.5, float(np.float32(0.1)), float(np.float32(1e-3)), SMALLEST, 1e-40, 3e38])
@pytest.mark.parametrize(("fmt", "zero_point"), KINDS, ids=lambda v: getattr(v, "name", str(v)))
def test_every_half_and_every_extreme(fmt: Format, zero_point: int, scale: float) -> None:
    kind = echo(1, fmt, zero_point, float(np.float32(scale))).types["x0"]
    assert isinstance(kind, IntType)
    x = hard_reals(kind)
    agree(echo(x.shape[1], fmt, zero_point, kind.scale), x)


@settings(max_examples=examples(300))
@given(st.sampled_from(KINDS), st.integers(1, 150), st.integers(1, 3), st.integers(1, 2**31 - 2**23 - 1), st.integers())
def test_any_floats_and_any_scale(kind: tuple[Format, int], n: int, batch: int, bits: int, seed: int) -> None:
    scale = float(np.uint32(bits).view(np.float32))
    rng = np.random.default_rng(abs(seed))
    wild = rng.integers(0, 2**32, (batch, n), dtype=np.uint32).view(np.float32)
    with np.errstate(over="ignore"):
        near = (rng.uniform(-400, 400, (batch, n)) * scale).astype(np.float32)
    x = np.where(rng.random((batch, n)) < 0.5, wild, near).astype(np.float32)
    x[~np.isfinite(x)] = -0.0
    agree(echo(n, *kind, scale), x)


def test_padded_images_and_several_outputs() -> None:
    """The input of a padded convolution lies in rows with a border between them; two threads share the batch."""
    graph = branched_model()
    model = sb.QuantizedModel(graph, {}, threads=2)
    x = np.random.default_rng(5).normal(0, 0.6, (5, 8, 6, 3)).astype(np.float32)
    want = run_reference(graph, model.encode(x))
    got = model({"image": x})
    assert list(got) == list(graph.outputs)
    for name, real in got.items():
        kind = graph.types[name]
        assert isinstance(kind, IntType)
        np.testing.assert_array_equal(real, boundary.dequantize(want[name], kind.scale, kind.zero_point))
    codes = model.encode(x)["image"]
    for name, real in model(codes).items():
        np.testing.assert_array_equal(real, got[name])


def test_positions_are_whole_numbers() -> None:
    x = replace(parity.kind((3, 50), parity.UINT8, 7), scale=0.25)
    graph = parity.one_op(Argmax(axis=2), [x], parity.kind((3,), parity.uniform(-(2**15), 2**15 - 1)))
    reals = np.random.default_rng(0).normal(0, 9, (2, 3, 50)).astype(np.float32)
    model = sb.QuantizedModel(graph, {})
    got = model(reals)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, run_reference(graph, model.encode(reals))["y"])
    assert model.run_codes(model.encode(reals)["x0"])["y"].dtype == np.int16


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -np.nan])
@pytest.mark.parametrize("place", [(0, 0), (1, 16), (2, 36)])
@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_not_finite_is_named_with_its_place(value: float, place: tuple[int, int], threads: int) -> None:
    x = np.full((3, 37), -LARGEST, np.float32)
    x[place] = value
    x[2, 36] = value
    with pytest.raises(RunError) as wanted:
        boundary.quantize(x, 1.0, 0, 0, 255, "uint8")
    assert f"holds {value}".replace("-nan", "nan") in wanted.value.seen
    assert str(place) in wanted.value.seen
    for name in parity.ISAS:
        with parity.isa(name):
            model = sb.QuantizedModel(echo(37, parity.UINT8, 0, 1.0), {}, threads=threads)
            for call in (lambda m=model: m(x), lambda m=model: m({"x0": x})):
                with pytest.raises(RunError) as caught:
                    call()
                assert str(caught.value) == str(wanted.value)


def _misaligned(x: parity.Array) -> parity.Array:
    raw = np.empty(x.nbytes + 1, np.uint8)
    view = raw[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    assert not view.flags.aligned or x.itemsize == 1
    return view


def _frozen(x: parity.Array) -> parity.Array:
    x = x.copy()
    x.flags.writeable = False
    return x


class Tagged(np.ndarray[Any, Any]):
    """A subclass of NumPy's array."""


ODD: dict[str, Callable[[parity.Array], Any]] = {
    "every second": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "backwards": lambda x: x[:, ::-1].copy()[:, ::-1],
    "columns first": np.asfortranarray,
    "misaligned": _misaligned,
    "frozen": _frozen,
    "subclass": lambda x: x.view(Tagged),
    "memory": memoryview,
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("fmt", [parity.UINT8, parity.INT16])
def test_arrays_that_lie_oddly_are_read_right(odd: str, fmt: Format) -> None:
    graph = echo(23, fmt, 3, 0.125)
    model = sb.QuantizedModel(graph, {})
    x = np.random.default_rng(1).normal(0, 9, (4, 23)).astype(np.float32)
    want = defined(graph.types["x0"], x)
    np.testing.assert_array_equal(model(x), want)
    np.testing.assert_array_equal(model(ODD[odd](x)), want)
    codes = model.encode(x)["x0"]
    np.testing.assert_array_equal(model(ODD[odd](codes)), want)
    np.testing.assert_array_equal(model.run_codes(ODD[odd](codes))["y"], codes)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((1, 4), np.float64),
        np.zeros((1, 4), np.float16),
        np.zeros((1, 4), np.float32).astype(">f4"),
        np.zeros((1, 4), np.complex64),
        np.zeros((1, 4), np.int32),
        np.zeros((1, 4), np.int16),
        np.zeros((1, 4), np.int8),
        np.zeros((1, 4), bool),
        np.zeros((1, 4), object),
        np.zeros((1, 4), "M8[s]"),
        [[0.0, 0.0, 0.0, 0.0]],
        None,
    ],
    ids=lambda x: str(getattr(x, "dtype", type(x).__name__)),
)
def test_other_number_types_are_refused(x: Any) -> None:
    model = sb.QuantizedModel(echo(4, parity.UINT8, 0, 1.0), {})
    with pytest.raises(RunError, match="has dtype") as caught:
        model(x)
    assert caught.value.rule == "inputs are float32 reals or uint8 stored integers"
    assert caught.value.remedy


@pytest.mark.parametrize("shape", [(0, 4), (4,), (1, 5), (1, 4, 1), (1, 2, 2), ()])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_other_shapes_are_refused(shape: tuple[int, ...], dtype: type) -> None:
    model = sb.QuantizedModel(echo(4, parity.UINT8, 0, 1.0), {})
    with pytest.raises(RunError, match="has shape") as caught:
        model(np.zeros(shape, dtype))
    assert "batch of at least 1" in caught.value.rule
    assert caught.value.remedy
    assert caught.value.place


def test_results_are_new_arrays() -> None:
    model = sb.QuantizedModel(echo(4, parity.UINT8, 0, 1.0), {})
    x = np.arange(4, dtype=np.float32)[None]
    first, second = model(x), model(x)
    first[:] = 77
    np.testing.assert_array_equal(second, x)
    assert first.flags.owndata
    assert first.flags.writeable


def test_scales_beyond_float32_are_refused() -> None:
    for scale in (0.0, -1.0, float("nan"), float("inf"), 1e39, 0.1, 1e-46):
        kind = replace(parity.kind((4,), parity.UINT8), scale=scale)
        node = Node(name="n", op=Identity(), inputs=("x",), output="y")
        graph = Graph(name="g", inputs=("x",), outputs=("y",), types={"x": kind, "y": kind}, nodes=(node,))
        with pytest.raises(RunError, match="scale"):
            Engine(graph)
