"""The profile: one row per operator, numbers that add up, bits untouched; how long anything takes is not asserted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from subbyte import _native
from subbyte.errors import RunError
from subbyte.runtime.engine import Engine
from tests.kernels import parity
from tests.kernels.test_engine import feeds
from tests.kernels.test_movement import network


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("isa", parity.ISAS)
def test_rows_follow_the_graph(isa: str, threads: int) -> None:
    graph = network(1)
    with parity.isa(isa):
        engine = Engine(graph)
    before = engine.run(feeds(1))
    rows = engine.profile(feeds(3), repeats=5, threads=threads)
    assert [r.name for r in rows] == ["", *(n.name for n in graph.nodes), ""]
    assert [r.op for r in rows] == ["take inputs", *(n.op.name for n in graph.nodes), "give outputs"]
    for row in rows:
        assert 0 <= row.nanoseconds <= row.median_nanoseconds
        assert row.isa == isa
        assert row.roof_share >= 0
        assert row.bytes_read >= row.weight_bytes >= 0
    for name, after in engine.run(feeds(1)).items():
        np.testing.assert_array_equal(after, before[name])


def test_macs_and_bytes_are_those_of_the_graph() -> None:
    graph = network(1)
    engine = Engine(graph)
    rows = engine.profile(feeds(1), repeats=1)
    assert sum(r.weight_bytes for r in rows) == engine.weight_bytes > 0
    assert rows[0].bytes_written == 5 * 4 * 6
    for node, row in zip(graph.nodes, rows[1:-1], strict=True):
        shape = graph.types[node.output].shape
        assert row.macs == node.op.macs([graph.operand(i) for i in node.inputs], shape)
        moved = [i for i in node.inputs if i in graph.types]
        sizes = [np.prod(graph.types[n].shape[1:]) * np.dtype(graph.types[n].storage).itemsize for n in moved]
        if row.bytes_read:
            assert row.bytes_read - row.weight_bytes == sum(sizes)
        else:
            assert node.op.name in {"reshape", "identity"}


@pytest.mark.parametrize(("outputs", "copied"), [(("s",), 0), (("s", "j"), 5 * 4 * 18), (("f", "s", "x"), 120 + 120)])
def test_only_outputs_that_others_need_are_copied(outputs: tuple[str, ...], copied: int) -> None:
    """Operators read "j", "f" is a reshape that copied nothing, "x" comes from the caller."""
    rows = Engine(replace(network(1), outputs=outputs)).profile(feeds(1), repeats=1)
    assert rows[-1].bytes_written == copied


@pytest.mark.parametrize("repeats", [0, -1, 100_001, 1.5, True])
def test_repeats_out_of_range(repeats: int) -> None:
    with pytest.raises(RunError, match="repeats"):
        Engine(network(0)).profile(feeds(1), repeats=repeats)


def test_a_profile_refuses_what_a_run_refuses() -> None:
    engine = Engine(network(0))
    with pytest.raises(RunError, match="shape"):
        engine.profile({"x": np.zeros((1, 5, 4, 7), np.uint8)})
    with pytest.raises(RunError, match="threads"):
        engine.profile(feeds(1), threads=257)


def test_the_extension_trusts_no_caller() -> None:
    native = Engine(network(0))._native
    with pytest.raises(ValueError, match="arrays"):
        native.profile([], 1, 1)
    with pytest.raises(ValueError, match="repeats"):
        native.profile([np.zeros((1, 5, 4, 6), np.uint8)], 1, 0)
    with pytest.raises(ValueError, match="instruction set"):
        _native.mac_roof("nonsense")


def test_roofs_are_positive() -> None:
    assert all(_native.mac_roof(isa) > 0 for isa in parity.ISAS)
    assert all(_native.read_roof(size) > 0 for size in (-1, 0, 1, 100_000))
