"""Model files of activations stored as codes: they round-trip, and what is false in them is refused."""

from __future__ import annotations

import pytest

from subbyte.runtime.modelfile import from_bytes, to_bytes
from tests.runtime.small_models import METADATA, coded_model
from tests.runtime.tampering import split
from tests.runtime.test_tampered_files import REFUSALS, change, run


def test_codes_round_trip_and_run():
    data = to_bytes(coded_model(), METADATA)
    graph, _ = from_bytes(data)
    assert to_bytes(graph, METADATA) == data
    assert {name for name, kind in graph.types.items() if kind.format.coded} == {"encode", "conv", "pad", "flat"}
    assert run(graph)


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("nodes 0 zero_point", 125, "zero point of codes"),
        ("nodes 0 zero_point", 0, "zero point of codes"),
        ("nodes 0 format", "fp8_e5m2", "not described"),
        ("nodes 0 attributes hi", 253, "hi"),
        ("nodes 1 format", "fp8_e4m3fn", "zero point of codes|keeps"),
        ("nodes 1 attributes pre_shift", 0, "can reach"),
        ("nodes 2 format", "fp8_e4m3fn", "zero point of codes"),
        ("nodes 2 attributes fill", 7, "fill"),
        ("nodes 4 format", "own_codes", "hi|codes"),
        ("inputs 0 format", "fp8_e4m3fn", "codes|zero point"),
    ],
)
def test_false_codes(path, value, complaint):
    with pytest.raises(REFUSALS, match=complaint):
        from_bytes(change(to_bytes(coded_model(), METADATA), f"graph {path}", value))


def test_false_tables_of_codes():
    data = to_bytes(coded_model(), METADATA)
    content, _ = split(data)
    table = content["formats"]["own_codes"]["table"]
    for wrong in ([*table, 2**24], [-(2**53), *table[1:]], [*table[:3], 5, *table[4:]], table[::-1]):
        with pytest.raises(REFUSALS):
            from_bytes(change(data, "formats own_codes table", wrong))
