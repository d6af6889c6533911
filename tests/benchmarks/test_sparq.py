"""The page about trims, from figures made up here."""

from __future__ import annotations

from benchmarks import sparq, sparq_page
from subbyte.formats.trims import get_trim, is_trim


def row(sqnr, agreement=90.0):
    return {"agreement": agreement, "sqnr_db": sqnr, "samples": 500, "bytes": 1000, "seconds": 1.0}


def layer(operand, result):
    return {"layer": "a", "operand_db": operand, "result_db": result, "zeros": 44.4, "whole": 80.0}


ROWS = {
    "w8 uint8 none": row(40.0, 99.0),
    "w8 sparq4_5opt none": row(20.0),
    "w8 sparq4_3opt none": row(21.0),
    "w8 sparq4_5opt_round none": row(25.0),
    "w4 sparq4_5opt_round_v bn": row(26.0, 95.5),
    "w8 sparq4_5opt_shared16 none": row(12.0),
}
LAYERS = {name: [layer(30.0, 20.0), layer(31.0, 21.0)] for name in sparq.operands() if is_trim(name)}
LAYERS["sparq4_3opt"] = [layer(28.0, 22.0), layer(28.0, 19.0)]
NET = {"float32": row(300.0, 100.0), "rows": ROWS, "layers": LAYERS}


def text(times=None):
    proxy = {name: 10.0 for name in sparq.operands() if name != "uint4"}
    return sparq_page.page({"nets": {"net": NET}, "proxy": proxy}, times)


def test_rows_and_layers():
    page = text()
    assert "| uint8 | 8 | 40.0, 99.0 |  |  |  |  |  |" in page
    assert "| sparq4_5opt_round_v | 7.5 |  |  |  |  | 26.0, 95.5 |  |" in page
    assert "| sparq4_5opt_shared16 | 4.188 | 12.0, 90.0 |" in page
    assert page.index("| uint8 |") < page.index("| sparq4_5opt |") < page.index("| sparq4_3opt |")
    assert "| 1 | 44 | 80 | 30.0, 20.0 | 30.0, 20.0 | 28.0, 22.0 |" in page


def test_what_theory_says_and_where_it_does_not_hold():
    page = text()
    assert "| net | 0 of 1, mean -1.0 dB | 1 of 1, mean +5.0 dB |  |" in page
    assert "| net | w8 none | sparq4_5opt ≥ sparq4_3opt | -1.0 | 2 of 2 | 1 of 2 |" in page
    names = {name for claim in sparq_page.claims() for name in claim[1:]}
    assert names == {n for n in sparq.operands() if is_trim(n) and sparq.kind(n) == "four"}


def test_beside_pruned_weights():
    rows = {"w8 uint8 none": row(21.4), "w8 uint8 bn": row(25.7), "w8 sparq4_5opt_round_stc none": row(18.0)}
    proxy = {name: 10.0 for name in sparq.operands() if name != "uint4"}
    page = sparq_page.page({"nets": {"net": {**NET, "pruned": rows}}, "proxy": proxy})
    assert "| uint8 | 21.4, 90.0 | 25.7, 90.0 |" in page
    assert "| sparq4_5opt_round_stc | 18.0, 90.0 |  |" in page


def test_costs():
    packed = {
        "codes": 2**20,
        "trim": "t",
        "bytes_per_code": 0.5234,
        "pack": 3.0,
        "unpack": 6.0,
        "copy": 12.0,
        "ratio": 2.0,
    }
    times = {"recipes": ["uint8", "t"], "networks": {"net": {"uint8": 10.0, "t": 12.0}}, "packed": [packed]}
    assert "| net | 10 µs (1.00) | 12 µs (1.20) |" in text(times)
    assert "| 1 MiB | t | 0.523 | 3.0 | 6.0 | 12.0 | 2.0 |" in text(times)


def test_what_is_tried():
    rows = list(sparq.rows_of(8, ["none", "bn", "default"], list(sparq.KINDS)))
    assert len({name for name, _, _ in rows}) == len(rows)
    assert ("w8 uint4 none", "wint8_auint4_first_last_8", ("output_error_clipping",)) in rows
    assert not any("stc" in name for name, _, _ in rows)
    options = {get_trim(n).option for n in sparq.operands() if is_trim(n)}
    assert len(options) == 6
