"""Instructions of the inner loops for 64-bit ARM, counted in the disassembly: no such machine is timed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.cpu.report import Report
from benchmarks.cpu.workshop import ROOT

COMPILER = "aarch64-linux-gnu-g++"
TARGET = 0.67
FORMS = {"Words": "4-bit weights, 8-bit activations", "Bytes<1>": "(31, 17) levels"}


def neon(report: Report) -> None:
    """The loops of few bits without the dot product instruction against that of int8."""
    rows = _counted() if shutil.which(COMPILER) else {}
    invalid = "" if rows else f"not measured, no {COMPILER} (make setup-arm)"
    forms = [{"form": name, **row} for name, row in rows.items()]
    report.cases.append({"name": "neon", "title": "NEON", "rows": {}, "ratios": {}, "forms": forms, "disturbed": []})
    for form, meaning in FORMS.items():
        share = rows[form]["of_int8"] if rows else 0.0
        what = f"NEON, {meaning}: instructions per multiply-accumulate / those of int8"
        report.target(what, TARGET, share, "of int8", at_most=True, invalid=invalid)


def _counted() -> dict[str, dict[str, Any]]:
    """Every form's loop, from objects cross-compiled now."""
    from tools.count_instructions import OBJECTS, REFERENCE, loops_of

    folder = ROOT / "build" / "arm"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    targets = [f"subbyte_{name}" for name in OBJECTS]
    for command in (["cmake", "--preset", "arm"], ["cmake", "--build", "--preset", "arm", "--target", *targets]):
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    loops = {loop.form: loop for name in OBJECTS.values() for loop in loops_of(folder / name)}
    return {
        form: {
            "tile": f"{loop.rows} x {4 * loop.vectors}",
            "instructions": loop.instructions,
            "per_mac": round(loop.per_mac, 3),
            "of_int8": round(loop.per_mac / loops[REFERENCE].per_mac, 2),
        }
        for form, loop in loops.items()
    }
