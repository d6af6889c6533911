"""The command line's whole road on a pretrained network: quantize, inspect, eval, compare, run."""

from __future__ import annotations

import json

import numpy as np
import pytest

import subbyte as sb
from subbyte.cli import main
from subbyte.demo.run import FLOAT_FILE, images
from subbyte.runtime.modelfile import breakdown

RULES = """
base = "w4a8"
[[rule]]
path = "Conv__9[57]$"
weights = "int8"
[[rule]]
operator = "linear"
weights = "ternary"
"""


def ask(capsys, *words):
    """The JSON that a call prints."""
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("arithmetic", ["m31", "m15", "shift"])
def test_keyword_spotting(arithmetic, shared_model, loaders, tmp_path, capsys):
    network, clips = shared_model("mlperf_dscnn_kws.onnx"), loaders.kws()
    data, out, scores, recipe = (tmp_path / n for n in ("kws.npz", "kws.subbyte", "y.npz", "mixed.toml"))
    np.savez(data, x=clips["mfcc"][::4], y=clips["labels"][::4])
    recipe.write_text(RULES)
    options = ("--recipe", recipe, "--arithmetic", arithmetic, "--samples", 64)
    made = ask(capsys, "quantize", network, out, "--data", data, *options)
    assert (made["recipe"], made["samples"], made["file_bytes"]) == ("mixed", 64, out.stat().st_size)

    nodes = ask(capsys, "inspect", out)["nodes"]
    weights = {n["name"]: n["weights"] for n in nodes if n["weights"]}
    assert [weights.pop(f"Conv__9{i}") for i in (5, 7)] == ["int8", "int8"]
    assert sorted(weights.values()) == ["int4"] * 7 + ["ternary"]
    assert all(16 >= n["accumulator_bits"] >= 8 for n in nodes if n["weights"] == "ternary")

    facts = ask(capsys, "eval", out, "--data", data, "--against", network)
    assert facts["samples"] == 125
    assert facts["agreement_percent"] > 75
    rows = ask(capsys, "compare", network, out, "--data", data, "--samples", 16)
    worst = [row["sqnr_local"] for row in rows]
    assert worst == sorted(worst)
    ask(capsys, "run", out, data, scores, "--batch", 50)
    model = sb.load(out)
    with np.load(scores) as file:
        assert np.array_equal(file[model.graph.outputs[0]], model(clips["mfcc"][::4]))


def test_files_of_small_networks_are_small(tmp_path):
    """Everything but the packed weights: a sixth of the file is much, and it must not creep up."""
    q = sb.quantize(sb.load_model(FLOAT_FILE), images("mnist16_calibration.npz")[:32], recipe="w4a8")
    size = q.save(tmp_path / "m.subbyte")
    codes = sum(part.nbytes for part in breakdown(q.graph) if part.role == "codes")
    assert codes == 10_600
    assert size - codes < 2_000
