"""The page about groups, from figures made up here, and what integer scales cost, on a network made up here."""

from __future__ import annotations

import json

import numpy as np
import torch
from torch import nn

import subbyte as sb
from benchmarks import groups as bench
from benchmarks import groups_page
from benchmarks.nets import Fold
from subbyte.quantization.recipe import load_recipe


def row(sqnr, bits, **more):
    return {"agreement": 90.0, "sqnr_db": sqnr, "samples": 500, "bits": bits, "bytes": 1000, "seconds": 1.0, **more}


NET = {
    "float32": {**row(300.0, 32.0), "top1": 75.0},
    "rows": {
        "int4": row(20.0, 4.1, drop=0.5, interval=0.25),
        "int4_g32": row(21.5, 4.26),
        "int4_dg64": row(22.0, 4.25),
        "fp4_e2m1_mx": row(19.0, 4.2),
    },
    "limits": {"int4_g32": {"held_db": 20.25, "free_db": 20.5, "moved": 12.0}},
}


def test_the_page_says_what_groups_add_and_cost():
    text = groups_page.page({"nets": {"resnet8": NET}})
    assert "| int4 | per_group(32) | +1.5 dB, +0.16 bits |" in text
    assert "| int4 | dual_grained(64) | +2.0 dB, +0.15 bits |" in text
    assert "| fp4_e2m1 | mx(32) |  |" in text  # no row of one scale per channel to hold it against
    assert "| resnet8 | int4 | per_group(32) | 20.25 | 20.50 | 12 |" in text
    assert "| int4 | per_channel | 4.10 | 20.0 | 90.0 | +0.50 ± 0.25 | 1,000 |" in text
    assert "float32 top-1 75.00 %" in text


def test_every_row_is_a_recipe():
    for net in bench.SMALL:
        for format_, suffixes in bench.FORMATS.items():
            for suffix in suffixes:
                rule = load_recipe(bench.recipe(net, format_, suffix)).rules[0]
                assert rule.granularity in {groups_page.WORDS[suffix], "mx" if suffix == "_mx" else ""}
                assert groups_page.parts(f"{format_}{suffix}") == (format_, suffix)


def test_new_rows_keep_old_ones_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "STORED", tmp_path / "groups.json")
    monkeypatch.setattr(bench, "PAGE", tmp_path / "groups.md")
    new = bench.merged(
        {"float32": row(300.0, 32.0), "rows": {"int4_dg64": row(1.0, 4.0)}}, {"rows": {"int4": row(2.0, 4.0)}}
    )
    bench.write({"vww": new, "resnet8": NET})
    nets = json.loads((tmp_path / "groups.json").read_text())["nets"]
    assert list(nets) == ["resnet8", "vww"]
    assert list(nets["vww"]["rows"]) == ["int4", "int4_dg64"]


def test_measured_on_a_small_network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)]
    model = sb.trace(nn.Sequential(*layers).eval(), (torch.zeros(1, 3, 8, 8),))
    x = np.random.default_rng(0).normal(size=(24, 3, 8, 8)).astype(np.float32)
    fold = Fold(calibration=x, x=x, y=None)
    made = {s: bench.quantized(model, bench.recipe("net", "int4", s), "int4", fold) for s in ("", "_g32", "_dg64")}
    assert all(outputs.shape == (24, 4) for outputs, _ in made.values())
    assert 4.0 < made[""][1]["bits"] < made["_g32"][1]["bits"] < 5.5
    found = bench.limits(model, "net", ["int4"])
    assert set(found) == {"int4_g32", "int4_mx", "int4_dg64"}
    for tally in found.values():
        assert tally["held_db"] <= tally["free_db"] + 0.01
        assert 0 <= tally["moved"] <= 100
