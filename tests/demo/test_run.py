"""The demo's files are what their README says, and its table tells the truth."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest

from subbyte.demo import run
from subbyte.pipeline import load_model, quantize


def test_images_are_what_the_network_wants() -> None:
    test, calibration = run.images("mnist16_test.npz"), run.images("mnist16_calibration.npz")
    assert test.shape == (1000, 1, 16, 16)
    assert calibration.shape == (256, 1, 16, 16)
    assert test.dtype == np.float32
    assert 0 <= test.min() < test.max() <= 1
    assert np.array_equal(np.unique(run.labels()), np.arange(10))


def test_calibration_images_are_not_test_images() -> None:
    test = {x.tobytes() for x in run.images("mnist16_test.npz")}
    assert not any(x.tobytes() in test for x in run.images("mnist16_calibration.npz"))


def test_float_network_knows_its_digits() -> None:
    session = onnxruntime.InferenceSession(run.FLOAT_FILE.read_bytes())
    (logits,) = session.run(None, {"image": run.images("mnist16_test.npz")})
    assert run.top1(logits, run.labels()) == pytest.approx(99.1, abs=0.1)


def test_files_are_small() -> None:
    assert sum(f.stat().st_size for f in run.FILES.iterdir() if f.suffix in {".onnx", ".npz"}) < 500_000


def test_top1() -> None:
    outputs = np.array([[0, 1], [3, 2], [5, 5]])
    assert run.top1(outputs, np.array([1, 1, 0], np.uint8)) == 66.67


def test_measured_rows() -> None:
    base, high, low = run.measure(("w8a8", "wternary_a8"))
    assert (base.recipe, base.change_percent, base.identical) == ("float32", 0.0, None)
    assert base.file_bytes == run.FLOAT_FILE.stat().st_size
    assert high.identical is True
    assert low.identical is True
    assert high.top1_percent >= base.top1_percent - 0.7
    assert low.file_bytes < high.file_bytes < base.file_bytes / 2
    assert high.change_percent == pytest.approx(high.top1_percent - base.top1_percent)
    assert high.times_smaller == pytest.approx(base.file_bytes / high.file_bytes, abs=0.01)


def test_race_sees_one_wrong_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A native engine that is off by one in one output of one image must not pass for identical."""
    model = quantize(load_model(run.FLOAT_FILE), run.images("mnist16_calibration.npz"), recipe="w8a8")
    codes = model.encode(run.images("mnist16_test.npz")[:4])[model.graph.inputs[0]]
    assert run.race(model, codes)[1]
    honest = model.run_codes

    def wrong(x):
        result = honest(x)
        if len(x) == 1 and np.array_equal(x[0], codes[3]):
            result = {name: value + np.eye(1, value.size, 5, dtype=value.dtype) for name, value in result.items()}
        return result

    monkeypatch.setattr(model, "run_codes", wrong)
    assert not run.race(model, codes)[1]


ROWS = (
    run.Row(recipe="float32", top1_percent=99.1, change_percent=0.0, file_bytes=1000, times_smaller=1.0),
    run.Row(
        recipe="w4a8",
        top1_percent=98.0,
        change_percent=-1.1,
        file_bytes=100,
        times_smaller=10.0,
        microseconds=12.5,
        identical=True,
    ),
)


def test_table_shows_every_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(run, "measure", lambda: iter(ROWS))
    monkeypatch.setattr(run, "RECIPES", ("w4a8",))
    monkeypatch.setenv("COLUMNS", "120")
    assert run.demo(quiet=True)
    shown = capsys.readouterr().out
    for word in ("float32", "99.1", "w4a8", "-1.1", "10.0", "yes"):
        assert word in shown


def test_json_holds_every_figure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(run, "measure", lambda: iter(ROWS))
    monkeypatch.setattr(run, "RECIPES", ("w4a8",))
    assert run.demo(as_json=True, quiet=True)
    found = json.loads(capsys.readouterr().out)
    assert [row["recipe"] for row in found] == ["float32", "w4a8"]
    assert found[1]["microseconds"] == 12.5
    assert found[0]["identical"] is None
