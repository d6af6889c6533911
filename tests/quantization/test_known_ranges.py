"""Ranges that an earlier call found are taken, and change nothing."""

from __future__ import annotations

import pytest

import subbyte as sb
from subbyte.graph.passes import prepare
from subbyte.ingest.data import batches
from subbyte.pipeline import to_integers
from subbyte.quantization.calibrate import Ranges
from subbyte.quantization.methods.network import Network
from subbyte.quantization.recipe import load_recipe
from subbyte.runtime.modelfile import to_bytes
from tests.allocation.small import classifier, images


def run(recipe, ranges):
    """(file, stages of progress) of one call."""
    stages = []
    graph = prepare(classifier())
    data = batches(images(), graph, batch_size=32, limit=256, seed=0)

    def report(stage, done, total):
        del done, total
        stages.append(stage)

    known = Network(graph=graph, batches=data, report=report)
    integer = to_integers(known, load_recipe(recipe), "m31", 256, ranges)
    return to_bytes(integer, {}), set(stages)


def alone(recipe):
    return to_bytes(sb.quantize(classifier(), images(), recipe=recipe).graph, {})


@pytest.mark.parametrize("second", ["w8a8", "w3a8", "w4a4", "x31_w17"])
def test_the_same_model(second):
    ranges: Ranges = {}
    first, stages = run("w4a8", ranges)
    assert "observe" in stages
    assert first == alone("w4a8")
    before = dict(ranges)
    again, stages = run(second, ranges)
    assert again == alone(second)
    assert before.items() <= ranges.items()
    assert ("observe" in stages) == (len(ranges) > len(before)) == (second not in {"w8a8", "w3a8"})
