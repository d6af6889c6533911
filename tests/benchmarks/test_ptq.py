"""Runs of parts of the accuracy benchmark keep the rows of other runs."""

from __future__ import annotations

import json

from benchmarks import ptq


def test_new_rows_take_their_places_among_old_ones():
    stored = {"float32": 1, "ort_min_max": 2, "w8a8": 3, "w4a8_first_last_8": 4, "w4a8_first_last_8 gptq": 5}
    merged = ptq.merge(stored, {"w4a8_first_last_8 nearest": 6, "w8a8": 7, "ort_percentile": 8, "w8a8 future": 9})
    assert merged["w8a8"] == 7
    assert list(merged) == [
        "float32",
        "ort_min_max",
        "ort_percentile",
        "w8a8",
        "w4a8_first_last_8",
        "w4a8_first_last_8 nearest",
        "w4a8_first_last_8 gptq",
        "w8a8 future",
    ]


def test_a_part_written_keeps_what_another_run_wrote_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr(ptq, "STORED", tmp_path / "ptq.json")
    monkeypatch.setattr(ptq, "PAGE", tmp_path / "ptq.md")
    row = {"agreement": 99.0, "sqnr_db": 20.0, "samples": 5, "bytes": 10, "seconds": 1.0}
    ptq.write("vww", {"float32": row, "w8a8": row})
    ptq.write("honk_res8", {"float32": row})
    ptq.write("vww", {"w8a8 gptq": row})
    nets = json.loads((tmp_path / "ptq.json").read_text())["nets"]
    assert list(nets) == ["honk_res8", "vww"]
    assert list(nets["vww"]) == ["float32", "w8a8", "w8a8 gptq"]
    assert "| w8a8 gptq | - | 99.0 |" in (tmp_path / "ptq.md").read_text()
