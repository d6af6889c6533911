"""What the zero-shot benchmark makes of its figures; nothing here is quantized."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import zeroshot


def test_losses_are_paired() -> None:
    real = np.array([True, True, True, False] * 100)
    other = np.array([True, False, True, True] * 100)
    assert zeroshot._paired(real, real.copy()) == {"loss": 0.0, "interval": 0.0}
    assert zeroshot._paired(real, other)["loss"] == 0
    assert zeroshot._paired(real, other)["interval"] == pytest.approx(196 * np.sqrt(0.5) / 20)
    assert zeroshot._paired(real, np.zeros(400, bool))["loss"] == 75
    assert zeroshot._paired(None, other) == {}


def test_the_page_says_what_was_met_and_what_was_missed() -> None:
    rows = {
        "w8a8 real": {"top1": 90.0, "agreement": 99.0},
        "w8a8 kl": {"top1": 89.0, "agreement": 98.0, "loss": 1.0, "interval": 0.5},
        "w4a8_first_last_8 kl": {"top1": 88.9, "agreement": 97.0, "loss": 1.1, "interval": 0.6},
    }
    sources = {s: {"mismatch": 0.1, "seconds": 2.0} for s in ("real", "kl")}
    net = {"samples": 400, "calibration": 16, "float_top1": 91.0, "sources": sources, "rows": rows}
    page = zeroshot.table({"nets": {"small": net}})
    assert "- w8a8, `kl` loses at most 0.5 points: small +1.00 (missed)." in page
    assert "- w4a8_first_last_8, `kl` loses at most 1.5 points: small +1.10 (met)." in page
    assert "| w8a8 | kl | 89.00 | +1.00 ± 0.50 | 98.0 | 0.10 | 2.0 |" in page
    assert "| w8a8 | real | 90.00 |  | 99.0 | 0.10 | 2.0 |" in page


def test_narrow_noise_lies_in_the_middle_of_the_domain() -> None:
    from tests.zeroshot.nets import images_net

    model = images_net()
    case = zeroshot.Case(model=lambda: model, domain=(0, 200), samples=40)
    (x,) = zeroshot.synthesized(case, model, "narrow").values()
    assert len(x) == 40
    assert 95 <= x.min() < x.max() <= 105
