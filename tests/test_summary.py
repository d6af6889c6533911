"""The summary's numbers are those of the file and of the proofs."""

from __future__ import annotations

import re

import numpy as np

from subbyte.graph.ir import IntType
from subbyte.runtime.integers import size, span
from subbyte.runtime.modelfile import breakdown, to_bytes
from subbyte.summary import node_facts, summary
from tests.runtime.small_models import METADATA, branched_model


def test_bytes_and_counts_are_those_of_the_file():
    graph = branched_model()
    facts = {f.name: f for f in node_facts(graph)}
    assert sum(f.bytes for f in facts.values()) == sum(p.nbytes for p in breakdown(graph))
    constants = [
        graph.constants["fc.weight"].scale.view(np.int32),
        *(graph.constants[f"fc.{k}"] for k in ("bias", "m", "n")),
    ]
    assert facts["fc"].bytes == 160 + sum(size(5, span(c)[0]) for c in constants)  # trits, then what each channel has
    assert 160 + 5 * 8 < facts["fc"].bytes < 160 + 5 * 11
    assert (facts["fc"].weights, facts["fc"].weight_count, facts["fc"].macs) == ("ternary", 800, 800)
    assert (facts["cat"].weights, facts["cat"].bytes, facts["cat"].accumulator_bits) == ("", 0, 0)
    text = summary(graph, METADATA)
    file = len(to_bytes(graph, METADATA))
    assert f"file: {file:,} bytes = weights " in text
    shares = re.search(
        r"weights ([\d,]+) \+ biases ([\d,]+) \+ rescale ([\d,]+) \+ tables 256 \+ header ([\d,]+)", text
    )
    assert shares is not None
    assert sum(int(n.replace(",", "")) for n in shares.groups()) + 256 == file
    assert "branched (w4a8, m31): 11 nodes" in text


def test_accumulator_bits_are_enough_and_none_too_many():
    graph = branched_model()
    kind, weight, bias = graph.types["flat"], graph.constants["fc.weight"].integers(), graph.constants["fc.bias"]
    assert isinstance(kind, IntType)
    ends = [np.where(weight > 0, a, b) for a, b in ((kind.lo, kind.hi), (kind.hi, kind.lo))]
    sums = [np.sum(weight * (q - kind.zero_point), axis=1) + bias for q in ends]
    worst = max(int(np.abs(s).max()) for s in sums)
    bits = {f.name: f.accumulator_bits for f in node_facts(graph)}["fc"]
    assert 2 ** (bits - 2) <= worst < 2 ** (bits - 1)
