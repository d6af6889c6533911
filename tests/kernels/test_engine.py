"""The engine's own promises: threads, reuse, errors, and a builder that trusts no caller."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from subbyte import _native
from subbyte.errors import RunError
from subbyte.graph.ir import FloatType, Graph, Node
from subbyte.graph.ops.rescale import IntRescale
from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference
from tests.kernels import parity
from tests.kernels.test_movement import network


def feeds(batch: int, seed: int = 0) -> dict[str, parity.Array]:
    return {"x": np.random.default_rng(seed).integers(0, 256, (batch, 5, 4, 6)).astype(np.uint8)}


def test_one_engine_in_many_python_threads() -> None:
    graph = network(1)
    engine = Engine(graph, threads=2)
    cases = [feeds(1 + seed % 5, seed) for seed in range(24)]
    expected = [run_reference(graph, case) for case in cases]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for got, want in zip(pool.map(engine.run, cases), expected, strict=True):
                for name in want:
                    np.testing.assert_array_equal(got[name], want[name])


@pytest.mark.parametrize("threads", [0, 1, 3, 256])
def test_any_number_of_threads(threads: int) -> None:
    graph = network(2)
    got = Engine(graph, threads=threads).run(feeds(4))
    for name, want in run_reference(graph, feeds(4)).items():
        np.testing.assert_array_equal(got[name], want)


def test_a_forked_process_starts_its_own_threads() -> None:
    """The parent's workers do not exist in the child, which must not wait for them."""
    script = """
        import os
        import numpy as np
        from tests.kernels.test_engine import feeds
        from tests.kernels.test_movement import network
        from subbyte.runtime.engine import Engine
        engine = Engine(network(3), threads=2)
        before = engine.run(feeds(4))
        child = os.fork()
        if child == 0:
            after = engine.run(feeds(4))
            os._exit(0 if all(np.array_equal(after[k], before[k]) for k in before) else 3)
        assert os.waitpid(child, 0)[1] == 0
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=120, env=environment)


def test_views_and_wider_integers_are_copied() -> None:
    graph = network(0)
    engine = Engine(graph)
    wide = feeds(6)["x"]
    expected = engine.run({"x": np.ascontiguousarray(wide[::2])})
    for codes in (wide[::2], np.asfortranarray(wide[::2]), wide[::2].astype(np.int64)):
        got = engine.run({"x": codes})
        for name, want in expected.items():
            np.testing.assert_array_equal(got[name], want)


@pytest.mark.parametrize(
    ("codes", "seen"),
    [
        ({}, "inputs"),
        ({"x": np.zeros((1, 5, 4, 6), np.uint8), "z": np.zeros((1, 1), np.uint8)}, "z"),
        ({"x": np.zeros((1, 5, 4, 7), np.uint8)}, "shape"),
        ({"x": np.zeros((5, 4, 6), np.uint8)}, "shape"),
        ({"x": np.zeros((0, 5, 4, 6), np.uint8)}, "shape"),
        ({"x": [[1, 2]]}, "list"),
        ({"x": np.zeros((1, 5, 4, 6), np.float32)}, "float32"),
        ({"x": np.full((1, 5, 4, 6), 300, np.int64)}, "300"),
        ({"x": np.full((1, 5, 4, 6), -1, np.int8)}, "-1"),
    ],
)
def test_inputs_that_do_not_fit(codes: dict[str, Any], seen: str) -> None:
    with pytest.raises(RunError, match=seen) as caught:
        Engine(network(0)).run(codes)
    assert caught.value.rule
    assert caught.value.remedy
    assert caught.value.place


def test_codes_beyond_the_format_are_refused_by_the_engine_too() -> None:
    x = parity.kind((3,), parity.uniform(0, 15), 0)
    engine = Engine(parity.one_op(IntRescale(m=2**30, n=30, lo=0, hi=15), [x], x))
    with pytest.raises(RunError, match=r"outside 0\.\.15"):
        engine.run({"x0": np.array([[0, 16, 0]], np.uint8)})


@pytest.mark.parametrize("threads", [-1, 257, 1.0, True])
def test_threads_out_of_range(threads: int) -> None:
    with pytest.raises(RunError, match="threads"):
        Engine(network(0), threads=threads)


def test_float_graphs_are_refused() -> None:
    real = FloatType(shape=(None, 3))
    op = IntRescale(m=1, n=1, lo=0, hi=1)
    node = Node(name="n", op=op, inputs=("x",), output="y")
    graph = Graph(name="g", inputs=("x",), outputs=("y",), types={"x": real, "y": real}, nodes=(node,))
    with pytest.raises(RunError, match="reals"):
        Engine(graph)


def test_unknown_instruction_sets_are_refused() -> None:
    with parity.isa("avx3"), pytest.raises(RunError, match="avx3"):
        Engine(network(0))


def plan(**changes: object) -> None:
    """Build one operator after some of its parts have been replaced: a hostile caller of the extension."""
    parts: dict[str, object] = {
        "kind": "int_conv",
        "inputs": [0],
        "output": 1,
        "x": ("x", [4, 4, 2], "uint8", 3, 0, 255),
        "y": ("y", [4, 4, 3], "uint8", 0, 0, 255),
        "graph": ([0], [1]),
        "stride": [1, 1],
        "dilation": [1, 1],
        "padding": [1, 1, 1, 1],
        "groups": [1],
        "lo": [0],
        "hi": [255],
        "pre_shift": [0],
        "codes": np.zeros((3, 3, 3, 2), np.uint8),
        "table": np.array([-1, 1], np.int16),
        "weight_zero": np.zeros(3, np.int32),
        "bias": np.zeros(3, np.int32),
        "m": np.ones(3, np.int32),
        "n": np.ones(3, np.int32),
        **changes,
    }
    builder = _native.Builder()
    for name in ("x", "y"):
        builder.value(*parts.pop(name))  # type: ignore[misc]
    kind, inputs, output, graph = (parts.pop(k) for k in ("kind", "inputs", "output", "graph"))
    arrays = {k: v for k, v in parts.items() if isinstance(v, np.ndarray)}
    numbers = {k: v for k, v in parts.items() if isinstance(v, list)}
    builder.op(kind, "n", inputs, output, numbers, arrays)  # type: ignore[arg-type]
    builder.build(*graph)  # type: ignore[misc]


GROUPED: dict[str, object] = {
    "group_size": np.full(1, 7, np.int32),  # of 18 weights of a column: 7, 7, 4
    "group_scale": np.full(9, 3, np.int32),
    "weight_zero": np.full(9, 41, np.int32),  # 3 * (-1 - 41) = -126
}


def test_the_honest_plan_builds() -> None:
    plan()
    plan(**GROUPED)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "int_magic"},
        {"kind": "int_add"},
        {"inputs": []},
        {"inputs": [0, 0]},
        {"inputs": [1]},
        {"inputs": [2]},
        {"inputs": [-1]},
        {"output": 0},
        {"output": 7},
        {"graph": ([], [1])},
        {"graph": ([0, 0], [1])},
        {"graph": ([0, 1], [1])},
        {"graph": ([0], [2])},
        {"x": ("x", [4, 4, 0], "uint8", 3, 0, 255)},
        {"x": ("x", [4, -4, 2], "uint8", 3, 0, 255)},
        {"x": ("x", [2**40, 2**40, 2], "uint8", 3, 0, 255)},
        {"x": ("x", [2**31, 2**33, 2], "uint8", 3, 0, 255)},
        {"x": ("x", [2**31 - 1, 1, 1], "int16", 3, 0, 255)},
        {"x": ("x", [1] * 8, "uint8", 3, 0, 255)},
        {"x": ("x", [4, 4, 2], "float32", 3, 0, 255)},
        {"x": ("x", [4, 4, 2], "uint8", 3, 0, 256)},
        {"x": ("x", [4, 4, 2], "uint8", 3, 9, 8)},
        {"x": ("x", [4, 4, 2], "uint8", 2**40, 0, 255)},
        {"x": ("x", [4, 4, 2], "uint8", 256, 0, 255)},
        {"x": ("x", [4, 4, 2], "int16", 32768, 0, 255)},
        {"x": ("x", [4, 4, 3], "uint8", 3, 0, 255)},
        {"x": ("x", [32], "uint8", 3, 0, 255)},
        {"y": ("y", [4, 4, 4], "uint8", 0, 0, 255)},
        {"y": ("y", [4, 5, 3], "uint8", 0, 0, 255)},
        {"y": ("y", [4, 4, 3], "uint8", 0, 0, 100)},
        {"stride": [0, 1]},
        {"stride": [1]},
        {"stride": [2**62, 1]},
        {"dilation": [2**24, 1]},
        {"dilation": [0, 1]},
        {"padding": [-1, 1, 1, 1]},
        {"padding": [2**24, 1, 1, 1]},
        {"groups": [0]},
        {"groups": [2]},
        {"groups": [-1]},
        {"lo": [-1]},
        {"hi": [256]},
        {"lo": [9], "hi": [8]},
        {"extra": [1]},
        {"codes": np.full((3, 3, 3, 2), 2, np.uint8)},
        {"codes": np.zeros((3, 3, 3), np.uint8)},
        {"codes": np.zeros((0, 3, 3, 2), np.uint8)},
        {"codes": np.zeros((3, 3, 3, 2), np.int16)},
        {"codes": np.zeros((3, 3, 2, 3), np.uint8).transpose(0, 1, 3, 2)},
        {"codes": np.zeros((3, 9, 9, 2), np.uint8)},
        {"table": np.array([-1, 2**24], np.int32), "codes": np.ones((3, 3, 3, 2), np.uint8)},
        {"table": np.array([0, 1], np.uint8)},
        {"pre_shift": [-1]},
        {"pre_shift": [33]},
        {"pre_shift": [1, 1]},
        {"pre_shift": [32], "bias": np.full(3, -(2**31), np.int32)},
        {"table": np.array([-(2**24) + 1, 1], np.int32)},
        {"table": np.zeros(300, np.int16)},
        {"table": np.zeros(0, np.int16)},
        {"weight_zero": np.full(3, 2**31 - 1, np.int32)},
        {"weight_zero": np.zeros(2, np.int32)},
        {"bias": np.zeros(4, np.int32)},
        {"bias": np.full(3, 2**31 - 1, np.int32)},
        {"bias": np.full(3, -(2**31), np.int32)},
        {"m": np.zeros(3, np.int64)},
        {"n": np.zeros(3, np.int32)},
        {"n": np.full(3, 63, np.int32)},
        {"m_neg": np.zeros(3, np.int32)},
        {"group_size": np.ones(1, np.int32)},
        {"group_scale": np.ones(3, np.int32)},
        {**GROUPED, "group_size": np.zeros(1, np.int32)},
        {**GROUPED, "group_size": np.full(1, 2**24 + 1, np.int32)},
        {**GROUPED, "group_size": np.full(1, 17, np.int32)},
        {**GROUPED, "group_size": np.full(1, 7, np.int64)},
        {**GROUPED, "group_scale": np.ones((3, 3), np.int32)},
        {**GROUPED, "group_scale": np.ones(6, np.int32)},
        {**GROUPED, "group_scale": np.zeros(9, np.int32)},
        {**GROUPED, "group_scale": np.full(9, 2**15 + 1, np.int32)},
        {**GROUPED, "weight_zero": np.zeros(3, np.int32)},
        {"stranger": np.zeros(3, np.int32)},
    ],
)
def test_hostile_plans_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        plan(**changes)


def test_hostile_runs_are_refused() -> None:
    builder = _native.Builder()
    for name in "xy":
        builder.value(name, [3], "int16", 0, -100, 100)
    builder.op("int_rescale", "n", [0], 1, {"m": [1], "n": [1], "lo": [-100], "hi": [100]}, {})
    engine = builder.build([0], [1])
    good = np.zeros((2, 3), np.int16)
    engine.run([good], 1, False)
    odd = np.zeros(13, np.uint8)[1:].view(np.int16).reshape(2, 3)
    bad: list[tuple[list[object], int]] = [
        ([], 1),
        ([good, good], 1),
        ([good], 0),
        ([good], 257),
        ([good[:0]], 1),
        ([good[0]], 1),
        ([good[0, 0]], 1),
        ([good[:, :2].copy()], 1),
        ([good.astype(np.uint8)], 1),
        ([good.astype(np.float32)], 1),
        ([good.byteswap().view(good.dtype.newbyteorder())], 1),
        ([np.zeros((3, 2), np.int16).T], 1),
        ([odd], 1),
        ([np.full((2, 3), 101, np.int16)], 1),
        ([bytes(12)], 1),
        ([None], 1),
    ]
    for inputs, threads in bad:
        with pytest.raises(ValueError, match=r"run|input"):
            engine.run(inputs, threads, False)
        if len(inputs) == 1:
            assert engine.quick(inputs[0], threads, False) is None
