"""The page of search results, from figures made up here."""

import numpy as np

from benchmarks.nets import Fold, Net
from benchmarks.search import POOL, halves, interval, page, sensitivities

TRIAL = {"name": "w4a8", "bytes": 1000.0, "bits": 4.0, "loss": 0.01, "agreement": 98.0}


def row(ratio, low, high):
    return {
        "samples": 500,
        "agreement": {"uniform": 97.0, "found": 97.1},
        "interval": [low, high],
        "loss": {"uniform": 0.02, "found": 0.019},
        "bytes": {"uniform": 1000.0, "found": 1000.0 * ratio},
        "ratio": ratio,
        "seconds": 12.0,
        "trials": [TRIAL, {**TRIAL, "name": "", "bytes": 800.0}],
        "layers": {},
    }


def test_the_page_counts_what_is_met():
    rows = {"a": row(0.80, -0.5, 0.7), "b": row(0.90, -0.1, 0.9), "c": row(0.80, -2.0, -0.2)}
    times = {
        "a": {"asked_us": 85.0, "w8a8_us": 100.0, "found_us": 86.0, "share": 0.86, "agreement": 96.0},
        "b": {"asked_us": 85.0, "w8a8_us": 100.0, "found_us": 95.0, "share": 0.95, "agreement": 96.0},
        "c": {"asked_us": 1.0, "refused": "too little"},
    }
    text = page({"bytes": rows, "bytes_first_last": {"b": row(0.84, -0.5, 0.2)}, "latency": times})
    assert "1 of 3 networks (a)" in text
    assert "not less on: a, b, c" in text
    assert "than w4a8_first_last_8" in text
    assert "1 of 1 networks (b)" in text
    assert "on 1 of 2 networks" in text
    assert "| c | | 1.0 | refused: too little | | |" in text
    assert text.index("| allocation | 800 |") < text.index("| w4a8 | 1,000 |")


def test_paired_intervals():
    low, high = interval(np.array([1.0, -1.0, 0.0, 0.0] * 100))
    assert low < 0 < high
    assert 10 < high - low < 20
    assert interval(np.zeros(50)) == (0.0, 0.0)


def test_times_are_forgotten_and_sensitivities_kept(tmp_path):
    path = tmp_path / "j.jsonl"
    lines = ['{"journal": 1}', '{"key": "conv|int4/uint8", "value": {}}', '{"key": "trial:0a", "value": {}}']
    path.write_text("\n".join(lines) + "\n")
    assert sensitivities(path).splitlines() == lines[:2]


def test_no_sample_is_in_both_halves():
    x = np.arange(4000, dtype=np.float32)
    large = Net(name="large", file="", folds=lambda count: [Fold(calibration=x[:count] + 10_000, x=x, y=None)])
    (fold,) = halves(large)
    assert (len(fold.calibration), len(fold.x)) == (POOL, 2000)
    assert not set(fold.calibration) & set(fold.x)
    both = [Fold(calibration=x[:250], x=x[250:500], y=None), Fold(calibration=x[250:500], x=x[:250], y=None)]
    assert halves(Net(name="small", file="", folds=lambda count: both)) == both
