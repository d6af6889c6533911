import math

import numpy as np
import pytest

from subbyte.allocation.divergence import agreement_interval, distance, divergences, require_classes
from subbyte.errors import DataError
from subbyte.graph.answer import find_answer
from subbyte.graph.ops.argmax import Argmax
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.ops.softmax import Softmax
from tests.quantization.nets import Net


def test_divergence_is_that_of_the_probabilities():
    want, got = np.array([[0.0, 1.0, 2.0], [1000.0, 0.0, -1000.0]]), np.array([[5.0, 6.5, 6.0], [999.0, 0.0, 0.0]])
    p, q = (np.exp(s[0] - s[0].max()) / np.exp(s[0] - s[0].max()).sum() for s in (want, got))
    found = divergences(want, got)
    assert found[0] == pytest.approx((p * np.log(p / q)).sum())
    assert 0 <= found[1] < 1e-12
    assert np.allclose(divergences(want, want + 7.0), 0, atol=1e-12)


def test_distance_of_classes():
    exact = np.array([[3.0, 1.0], [0.0, 1.0], [2.0, 1.0], [5.0, 4.0]])
    other = exact.copy()
    other[0] = [1.0, 3.0]
    found = distance(exact, other, "classes")
    assert found.agreement == 75.0
    assert found.samples == 4
    assert found.sqnr_db == pytest.approx(10 * math.log10(np.square(exact).sum() / 8))
    same = distance(exact, exact, "classes")
    assert (same.loss, same.agreement, same.sqnr_db) == (0.0, 100.0, math.inf)


def test_distance_of_reals():
    found = distance(np.array([[3.0, 4.0]]), np.array([[3.0, 4.5]]), "reals")
    assert found.loss == pytest.approx(0.01)
    assert found.sqnr_db == pytest.approx(20.0)
    assert math.isnan(found.agreement)


def graph(*behind):
    net = Net(4)
    net.add("scores", Linear(), "x", net.weight(3, 4))
    last = "scores"
    for name, op in behind:
        last = net.add(name, op, last)
    return net.graph(last)


@pytest.mark.parametrize(
    ("behind", "value", "kind"),
    [
        ([], "scores", "classes"),
        ([("p", Softmax(axis=1))], "scores", "classes"),
        ([("best", Argmax(axis=1, keepdims=False))], "scores", "classes"),
        ([("flat", Reshape(shape=(None, 3, 1, 1)))], "flat", "classes"),
        ([("flat", Reshape(shape=(None, 3, 1, 1))), ("p", Softmax(axis=1))], "flat", "classes"),
    ],
)
def test_answers(behind, value, kind):
    found = find_answer(graph(*behind))
    assert (found.value, found.kind) == (value, kind)


def test_maps_are_reals():
    net = Net(2, 4)
    net.add("map", Linear(), "x", net.weight(3, 4))
    answer = find_answer(net.graph("map"))
    assert answer.kind == "reals"
    with pytest.raises(DataError, match="no row of class scores"):
        require_classes(answer, "max_drop")


def test_intervals():
    low, high = agreement_interval(100.0, 50)
    assert (round(low, 1), round(high, 1)) == (92.9, 100.0)
    low, high = agreement_interval(50.0, 10_000)
    assert high - low == pytest.approx(1.96, abs=0.01)
