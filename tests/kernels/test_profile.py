"""The profile: one row per operator, numbers that add up, bits untouched; how long anything takes is not asserted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from subbyte import _native
from subbyte.errors import RunError
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ops.linear import IntLinear
from subbyte.runtime.engine import Engine
from subbyte.runtime.profile import Roof, Work
from tests.kernels import parity
from tests.kernels.test_caller_memory import depthwise
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


@pytest.mark.parametrize(("channels", "rest"), [(8, 0), (64, 0), (65, 1), (80, 16), (81, 0), (96, 0), (144, 16)])
def test_channels_left_over_have_a_roof_of_their_own(channels: int, rest: int) -> None:
    engine = Engine(depthwise(channels, 9, 1, (1, 1, 1, 1)))
    (work,) = engine.work()
    assert work.depthwise
    assert work.left_over == 5 * 9 * 9 * rest
    roof = Roof(macs=99.0, rescaled=99.0, depthwise=4.0, pieces=2.0, weights=1e9, activations=1e9)
    assert roof.nanoseconds(work) == ((work.macs + work.left_over) / 4, "MACs")
    assert replace(roof, pieces=0.0).nanoseconds(work) == (work.macs / 4, "MACs")


def test_roofs_are_positive() -> None:
    assert all(_native.mac_roof(isa) > 0 for isa in parity.ISAS)
    assert all(_native.depthwise_pieces_roof(isa) >= 0 <= _native.depthwise_roof(isa) for isa in parity.ISAS)
    assert all(_native.read_roof(size) > 0 for size in (-1, 0, 1, 100_000))


ADDING_IN_INT16 = {"avx2", "avx512bw"}


@pytest.mark.parametrize("isa", parity.ISAS)
def test_products_of_any_bytes_have_a_roof_of_their_own_where_kernels_add_in_int16(isa: str) -> None:
    """Which of two measured roofs is lower is not asserted: another program may have run beside one of them."""
    assert (_native.wide_mac_roof(isa) > 0) == (isa in ADDING_IN_INT16)
    assert (_native.wide_depthwise_roof(isa) > 0) == (isa == "avx2")


@pytest.mark.parametrize("isa", parity.ISAS)
@pytest.mark.parametrize(("large", "wide"), [(64, 0), (65, 1)])
def test_macs_beyond_int16_are_those_of_panels_whose_weights_prove_nothing(isa: str, large: int, wide: int) -> None:
    """255 * (64 + 64) is the most that int16 holds of two products."""
    columns, depth = 100, 20
    weights = np.ones((columns, depth), np.int64)
    weights[-1, 8:10] = large
    weight = QTensor(
        codes=(weights + 128).astype(np.uint8),
        format=parity.uniform(-128, 127),
        scale=np.ones(columns, np.float32),
        zero_point=np.zeros(columns, np.int32),
    )
    ones = np.ones(columns, np.int32)
    source, result = parity.kind((depth,), parity.UINT8, 0), parity.kind((columns,), parity.UINT8, 0)
    op = IntLinear(lo=result.lo, hi=result.hi)
    graph = parity.one_op(op, [source], result, [weight, 0 * ones, ones << 30, 40 * ones])
    with parity.isa(isa):
        work = Engine(graph).work()[0]
    last = {"avx2": 4, "avx512bw": 4}  # columns of the last panel
    assert work.macs == columns * depth
    assert work.wide_macs == wide * last.get(isa, 0) * depth


def test_the_least_time_of_products_that_may_leave_int16() -> None:
    roof = Roof(
        macs=100.0, rescaled=0.0, depthwise=50.0, weights=1e9, activations=1e9, wide_macs=60.0, wide_depthwise=20.0
    )
    assert roof.nanoseconds(Work(macs=1600, wide_macs=600)) == (20.0, "MACs")
    assert roof.nanoseconds(Work(macs=1000, wide_macs=1000, depthwise=True)) == (50.0, "MACs")
    assert roof.nanoseconds(Work(macs=1000, depthwise=True)) == (20.0, "MACs")
