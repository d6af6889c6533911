"""What a question leaves behind: cases with their times and ratios, targets with what was reached, facts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.cpu import workshop
from benchmarks.cpu.roofs import Roofs, better, call_floor, least_us, roofs
from benchmarks.cpu.rounds import Times, ratios
from benchmarks.machine import facts

if TYPE_CHECKING:
    from subbyte.runtime.engine import Engine

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
    """The answer to one question, as it grows.

    Attributes:
        question: as asked.
        settings: how it is asked.
        begin: when, in seconds of the process's clock.
        before: roofs measured at the beginning.
        floor: microseconds of a call that computes nothing.
        cases: with their times and ratios.
        targets: with what was reached.
    """

    question: str
    settings: Settings
    begin: float = field(default_factory=time.perf_counter)
    before: Roofs = field(default_factory=roofs)
    floor: float = field(default_factory=call_floor)
    cases: list[dict[str, Any]] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)

    @property
    def dot(self) -> str:
        """Name of the roof of exact int8 products for this run."""
        return "vpdpbusd_512" if "vpdpbusd_512" in self.before and not self.settings.avx2 else "maddubs_maddwd_256"

    @property
    def peak(self) -> float:
        """Billions of int8 multiply-accumulates per second that this run may use at most."""
        return self.before[self.dot]

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

    def bound(self, case: dict[str, Any], runner: str, engine: Engine, dot: str = "") -> float:
        """The least microseconds that one of our runners could take, which is kept in the case and returned.

        Args:
            case: of the runner.
            runner: name of ours.
            engine: that it calls.
            dot: another roof of the products than that of exact int8.
        """
        least = least_us(engine, self.before, dot or self.dot) + self.floor
        case.setdefault("least_us", {})[runner] = round(least, 3)
        return least

    def ceiling(self, case: dict[str, Any], least: float, kinds: Sequence[str] = ("int8", "fp32")) -> float:
        """The largest ratio that any engine could reach here: time of the fastest peer / least time of ours.

        Args:
            case: with peers.
            least: see ``bound``.
            kinds: of peers.
        """
        peers = [r["min_us"] for r in case["rows"].values() if r["counts"] and r["kind"] in kinds]
        return float(min(peers) / least)

    def target(self, what: str, target: float, value: float, unit: str = "x", **more: Any) -> None:
        """Compare a figure with the milestone's.

        Args:
            what: is measured.
            target: of the milestone.
            value: reached.
            unit: of both.
            more: ``at_most`` where small is good; ``ceiling``, the value at the measured roofs; ``invalid``, why the
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
            "call_floor_us": round(self.floor, 3),
            "seconds": round(time.perf_counter() - self.begin, 1),
            "targets": self.targets,
            "cases": self.cases,
        }
        folder = workshop.FOLDER / "quick" if self.settings.quick or self.settings.only else RESULTS
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"cpu_{self.question}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
        return path
