"""What a question leaves behind: cases with their times and ratios, targets with what was reached, facts."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.cpu import workshop
from benchmarks.cpu.roofs import Roofs, better, roofs
from benchmarks.cpu.rounds import Times, ratios
from benchmarks.machine import facts

SLOWER = 1.5
BUSY = 0.93
"""A case was timed beside other work if somebody's median call takes so many times its fastest, or had the core for a
smaller share of its turns."""

RESULTS = Path(__file__).resolve().parents[1] / "results"


def _disturbed(row: dict[str, Any]) -> bool:
    return bool(row["median_us"] > SLOWER * row["min_us"] or row["busy"] < BUSY)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a question is asked.

    Attributes:
        quick: fewer rounds and cases; the answer is kept in build/bench instead of benchmarks/results.
        avx2: everything that can be is held to AVX2.
        only: names of cases; empty means all.
    """

    quick: bool = False
    avx2: bool = False
    only: tuple[str, ...] = ()

    def rounds(self, full: int) -> int:
        """How many rounds: a quarter where quick."""
        return max(full // 4, 5) if self.quick else full

    def wanted(self, name: str) -> bool:
        """Whether a case is asked for."""
        return not self.only or name in self.only


@dataclass
class Report:
    """The answer to one question, as it grows."""

    question: str
    settings: Settings
    begin: float = field(default_factory=time.perf_counter)
    before: Roofs = field(default_factory=roofs)
    cases: list[dict[str, Any]] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)

    @property
    def peak(self) -> float:
        """Billions of int8 multiply-accumulates per second that this run may use at most."""
        name = "maddubs_maddwd_256" if self.settings.avx2 else "vpdpbusd_512"
        return self.before.get(name, self.before["maddubs_maddwd_256"])

    def case(self, name: str, title: str, macs: int, times: dict[str, Times], **more: Any) -> dict[str, Any]:
        """Keep one case, print it in short, return it."""
        rows = {}
        for runner, t in times.items():
            rows[runner] = t.row()
            if macs:
                rate = macs / rows[runner]["min_us"] / 1e3
                rows[runner] |= {"gmacs": round(rate, 1), "of_peak": round(rate / self.peak, 3)}
        disturbed = [runner for runner, row in rows.items() if _disturbed(row)]
        case = {"name": name, "title": title, "macs": macs, "rows": rows, "ratios": ratios(times), **more}
        case["disturbed"] = disturbed
        self.cases.append(case)
        print(f"{self.question}: {name}")
        for runner, row in rows.items():
            against = case["ratios"].get(runner, {})
            text = "  ".join(f"{k} {v['median']:.2f}x" for k, v in against.items())
            rate_text = f"{row['gmacs']:8.1f} GMAC/s" if macs else ""
            print(f"  {runner:18} {row['min_us']:10.1f} us  median {row['median_us']:10.1f} us {rate_text}  {text}")
        if disturbed:
            print(f"  DISTURBED, do not trust: {', '.join(disturbed)}")
        return case

    def ceiling(self, case: dict[str, Any], roof: str = "") -> float:
        """The largest ratio that any engine could reach here: time of the fastest peer / time at the int8 peak.

        Args:
            case: with peers.
            roof: another one than the int8 peak.
        """
        peak = self.before[roof] if roof else self.peak
        peers = [r["min_us"] for r in case["rows"].values() if r["counts"] and r["kind"] in {"int8", "fp32"}]
        return float(min(peers) * peak * 1e3 / case["macs"])

    def target(self, what: str, target: float, value: float, unit: str = "x", **more: Any) -> None:
        """Compare a figure with the milestone's.

        Args:
            what: is measured.
            target: of the milestone.
            value: reached.
            unit: of both.
            more: ``at_most`` where small is good; ``ceiling``, the value at the measured roof; ``invalid``, why the
                figure does not count although it may look met.
        """
        at_most, invalid = bool(more.pop("at_most", False)), str(more.pop("invalid", ""))
        met = (value <= target if at_most else value >= target) and not invalid
        row = {"what": what, "target": target, "value": round(value, 3), "unit": unit, "at_most": at_most, "met": met}
        row |= {"invalid": invalid, "disturbed": bool(self.cases[-1]["disturbed"])}
        row |= {name: round(figure, 3) for name, figure in more.items()}
        self.targets.append(row)
        end = f", ceiling {more['ceiling']:.2f}" if "ceiling" in more else ""
        sign, verdict = "<=" if at_most else ">=", "met" if met else invalid or "MISSED"
        print(f"  target: {what}: {value:.2f} {unit} ({sign} {target}{end}) {verdict}", flush=True)

    def finish(self) -> Path:
        """Write the results file and return it."""
        after = roofs()
        result = {
            "question": self.question,
            "command": f"python -m benchmarks.cpu {self.question}",
            "machine": facts(),
            "load_average": round(os.getloadavg()[0], 2),
            "isa": "avx2" if self.settings.avx2 else "all that the CPU has",
            "roofs": better(self.before, after),
            "seconds": round(time.perf_counter() - self.begin, 1),
            "targets": self.targets,
            "cases": self.cases,
        }
        folder = workshop.FOLDER / "quick" if self.settings.quick or self.settings.only else RESULTS
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"cpu_{self.question}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
        return path
