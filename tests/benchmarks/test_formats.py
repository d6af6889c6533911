"""The page about formats, from figures made up here, and what the benchmark measures once instead of twice."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import subbyte as sb
from benchmarks import formats as bench
from benchmarks import formats_page
from benchmarks.nets import Fold
from benchmarks.ptq import folded, quantized
from subbyte.formats.registry import format_names


def row(sqnr, agreement=90.0, **more):
    return {"agreement": agreement, "sqnr_db": sqnr, "samples": 500, "bytes": 1000, "seconds": 1.0, **more}


WEIGHTS = {
    "int3": row(15.0),
    "int4": row(20.0, 95.0, drop=0.5, interval=0.25),
    "levels15": row(20.5, 96.0),
    "nf4": row(21.5, 97.0),
    "fp130": row(16.5, 91.0),
    "levels3": row(7.0),
    "ternary": row(7.0, same_as="levels3"),
}
OPERANDS = {"uint4": row(18.0), "int4": row(18.0, same_as="uint4"), "nf4": row(12.0)}
NET = {"float32": row(300.0, 100.0), "shares": {"weights": 97.6, "activations": 75.0}}
NET |= {"weights": WEIGHTS, "activations": OPERANDS}


def test_the_page_names_what_is_best_and_what_does_not_help():
    text = formats_page.page({"nets": {"honk_res8": NET}})
    assert "| 1 |  |" in text
    assert "| 1.6 | levels3 7.0, 90.0 |" in text
    assert "| 3 | int3 15.0, 90.0 |" in text
    assert "| 8 | nf4 21.5, 97.0 |" in text
    assert "| nf4 | 4.00 | +1.0 | +1.0 | +1.0 |" in text
    assert "| fp130 | 4.00 | -4.0 | -4.0 | -5.0 |" in text
    assert "Ahead on all of the 1 networks: nf4." in text
    assert "uneven spacing does not help: fp130." in text
    assert "| nf4 | 4.00 | -6.0 | -6.0 | +0.0 |" in text
    assert "| int4 | 4.00 | 4.00 | 20.0 | 95.0 | +0.50 ± 0.25 | 1,000 |" in text
    assert "| levels3, ternary | 1.60 | 1.58 | 7.0 | 90.0 | - | 1,000 |" in text
    assert "| weights | int16 | codes of weights are bytes |" in text
    assert "| operands | fp8_e5m2 | numbers multiply as integers of 24 bits" in text


def test_ties_and_second_names_do_not_win():
    rows = {"uint4": row(10.0), "int4": row(99.0, same_as="uint4"), "levels15": row(10.0)}
    assert formats_page.best(rows, 4.0) == "uint4"
    assert formats_page.best(rows, 3.9) is None
    assert formats_page.gain({"nf4": row(10.0)}, "nf4") is None


def test_pictures_hold_every_measured_format():
    made = formats_page.pictures({"nets": {"vww": NET}})
    assert sorted(made) == ["vww_activations.svg", "vww_weights.svg"]
    assert made["vww_weights.svg"].count("<title>") == 2 * 6
    assert "<title>nf4: 4.00 bits, 21.5</title>" in made["vww_weights.svg"]


def test_every_legal_format_has_a_colour():
    names = {f.name for role in formats_page.ROLES for f in bench.legal(role)}
    assert {formats_page.group(n) for n in names} == set(formats_page.COLOURS)
    assert {formats_page.group(n).startswith("even") == formats_page.even(n) for n in names - {"pow2_e2"}} == {True}


def test_new_rows_keep_old_ones_in_the_registrys_order(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "STORED", tmp_path / "formats.json")
    monkeypatch.setattr(bench, "PAGE", tmp_path / "formats.md")
    monkeypatch.setattr(bench, "PICTURES", tmp_path / "pictures")
    head = {"float32": row(300.0), "shares": NET["shares"]}
    new = bench.merged({**head, "weights": {"nf4": row(1.0), "int4": row(2.0)}}, {"weights": {"int4": row(3.0)}})
    bench.write({"vww": new, "resnet8": NET})
    nets = json.loads((tmp_path / "formats.json").read_text())["nets"]
    assert list(nets) == ["resnet8", "vww"]
    assert list(nets["vww"]["weights"]) == ["int4", "nf4"]
    assert nets["vww"]["weights"]["int4"]["sqnr_db"] == 3.0
    assert (tmp_path / "pictures" / "resnet8_activations.svg").exists()


@pytest.mark.parametrize("role", formats_page.ROLES)
def test_twins_are_measured_ones(role):
    twins = bench.twins(role)
    assert set(twins) == {f.name for f in bench.legal(role)} <= set(format_names())
    assert all(twins[first] == first for first in twins.values())


@pytest.mark.parametrize(("role", "name"), [("activations", "int3"), ("activations", "ternary"), ("weights", "apot3")])
def test_twins_have_one_result(role, name):
    x = np.random.default_rng(0).normal(size=(24, 3, 8, 8)).astype(np.float32)
    torch.manual_seed(0)
    middle = [layer for _ in range(2) for layer in (nn.Conv2d(6, 6, 3), nn.ReLU())]
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), *middle, nn.Flatten(), nn.Linear(24, 5)).eval()
    model, folds = sb.trace(net, (torch.zeros(1, 3, 8, 8),)), [Fold(calibration=x, x=x, y=None)]
    recipe, first = formats_page.ROLES[role].recipe, bench.twins(role)[name]
    exact = [np.asarray(sb.quantize(model, x, recipe="w8a8")(x))]
    a, b = (folded(partial(quantized, model, recipe.format(n), None), folds, exact)["sqnr_db"] for n in (name, first))
    assert first != name
    assert a == b
    assert a < 60  # something was quantized to the format
