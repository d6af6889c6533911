"""Latency: how often is called, and what is made of the times, by a clock that is made up."""

from __future__ import annotations

import numpy as np
import pytest

from subbyte.bench.latency import SECONDS, latency, random_codes, spread, timed
from subbyte.bench.layers import breakdown
from subbyte.model import QuantizedModel
from tests.kernels.test_movement import network


class Clock:
    """Advances by what a call takes."""

    def __init__(self, takes: float) -> None:
        self.now, self.takes, self.calls = 0.0, takes, 0

    def __call__(self) -> int:
        return round(self.now)

    def call(self) -> None:
        self.calls += 1
        self.now += self.takes


@pytest.mark.parametrize(("takes", "count"), [(SECONDS * 1e9 / 50, 50), (SECONDS * 1e9 * 3, 10), (1.0, 100_000)])
def test_about_a_second_of_calls_but_enough_and_not_too_many(takes: float, count: int) -> None:
    clock = Clock(takes)
    times = timed(clock.call, None, clock)
    assert times == [round(takes)] * count
    assert clock.calls == count + 2


def test_as_many_calls_as_asked_for() -> None:
    clock = Clock(5e9)
    assert len(timed(clock.call, 3, clock)) == 3


def test_spread_of_times() -> None:
    found = spread([1000 * n for n in (10, 1, 2, 3, 4, 5, 6, 7, 8, 9)])
    assert (found.least, found.median, found.p90, found.count) == (1.0, 5.5, 9.0, 10)
    assert spread([2000]) == spread([2000, 2000]).__class__(least=2.0, median=2.0, p90=2.0, count=1)


def test_a_model_is_timed_as_users_call_it() -> None:
    model = QuantizedModel(network(1), {}, threads=2)
    found = latency(model, repeats=3)
    assert found.codes.count == found.floats.count == 3
    assert 0 < found.codes.least <= found.codes.median <= found.codes.p90
    assert found.per_second == pytest.approx(1e6 / found.codes.median)
    assert (found.threads, found.isa) == (2, model.engine.isa)
    assert (found.arena_bytes, found.weight_bytes) == (model.engine.arena_bytes, model.engine.weight_bytes)


def test_a_breakdown_adds_up() -> None:
    found = breakdown(QuantizedModel(network(1), {}), repeats=4)
    assert found.repeats == found.call.count == 4
    assert found.microseconds == sum(row.nanoseconds for row in found.layers) / 1e3
    assert breakdown(QuantizedModel(network(1), {})).repeats >= 10


def test_random_samples_are_legal_and_repeat() -> None:
    graph = network(2)
    first, again = random_codes(graph, 0), random_codes(graph, 0)
    for name, codes in first.items():
        kind = graph.types[name]
        assert codes.dtype == kind.storage
        assert codes.shape == (1, *kind.shape[1:])
        assert codes.min() >= kind.lo
        assert codes.max() <= kind.hi
        np.testing.assert_array_equal(codes, again[name])
