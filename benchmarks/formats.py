"""Every weight format and every operand format of the registry, on the small networks of the shared data.

    python -m benchmarks.formats                  # everything; updates benchmarks/results/ and docs/results/
    python -m benchmarks.formats --nets resnet8 --roles weights --formats int4 nf4 --no-write
    python -m benchmarks.formats --page           # the page again from stored rows

Folds, scores and the float networks' answers are those of ``benchmarks.ptq``; methods are the default ones.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import subbyte as sb
from benchmarks.formats_page import ROLES, page, pictures
from benchmarks.machine import facts
from benchmarks.nets import NETS, Net
from benchmarks.ptq import score, scored, session
from benchmarks.repeated import Repeated
from subbyte.formats.format import Format
from subbyte.formats.refusals import refused
from subbyte.formats.registry import formats
from subbyte.graph.passes import prepare
from subbyte.quantization.recipe import load_recipe
from subbyte.quantization.resolve import resolve

SMALL = tuple(name for name in NETS if name != "tiny_darknet")
HERE = Path(__file__).resolve().parent
STORED = HERE / "results" / "formats.json"
PAGE = HERE.parent / "docs" / "results" / "formats.md"
PICTURES = PAGE.parent / "formats"


def legal(role: str) -> list[Format]:
    """Listed formats that recipes take in a role."""
    return [f for f in formats() if refused(f, ROLES[role].refusal) is None]


def twins(role: str) -> dict[str, str]:
    """The first legal format with the same values and packing, by format: both are measured once.

    Operands have a zero point where values are consecutive, which makes two formats of as many levels the same.
    """
    first: dict[Any, str] = {}
    found = {}
    for f in sorted(legal(role), key=lambda f: role == "activations" and f.lo < 0):  # uint4 before int4
        key = f.levels if role == "activations" and f.uniform else tuple(f.table)
        found[f.name] = first.setdefault((key, f.packing), f.name)
    return found


def shares(model: sb.Graph) -> dict[str, float]:
    """Per cent of the weights that get the format, and of convolutions and linear layers whose operand does."""
    graph = prepare(model)
    low = resolve(load_recipe("w4_a4_first_last_8"), graph)
    size = {n.name: math.prod(graph.constants[n.inputs[1]].shape) for n in graph if n.name in low}
    weights = sum(s for name, s in size.items() if low[name].weights.name == "int4")
    operands = sum(c.operand.name == "uint4" for c in low.values())
    return {"weights": 100 * weights / sum(size.values()), "activations": 100 * operands / len(low)}


def evaluate(net: Net, role: str, names: Sequence[str]) -> dict[str, Any]:
    """Rows by format of one network, and that of the float network."""
    model, run_float, folds = sb.load_model(net.path), session(net.path), net.brief()
    exact = [run_float(f.x) for f in folds]
    trials = [Repeated(model, fold) for fold in folds]
    rows: dict[str, Any] = {}
    for name, first in twins(role).items():
        if name not in names:
            continue
        if first in rows:
            rows[name] = {**rows[first], "same_as": first}
            continue
        rows[name] = scored([t.made(ROLES[role].recipe.format(name)) for t in trials], folds, exact)
        print(net.name, role, name, json.dumps(rows[name]), flush=True)
    return {"float32": score(exact, exact, [f.y for f in folds]), "shares": shares(model), role: rows}


def merged(stored: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of one network: new rows over old ones, in the registry's order."""
    both = {**stored, **new}
    for role in ROLES:
        rows = {**stored.get(role, {}), **new.get(role, {})}
        both[role] = {f.name: rows[f.name] for f in formats() if f.name in rows}
    return both


def stored_results() -> dict[str, Any]:
    """By network, what earlier runs left."""
    return dict(json.loads(STORED.read_text())["nets"]) if STORED.exists() else {}


def write(nets: Mapping[str, Any]) -> None:
    """Rows, page and pictures."""
    ordered = {name: nets[name] for name in [*NETS, *nets] if name in nets}
    results = {"command": "python -m benchmarks.formats", "machine": facts(), "nets": ordered}
    PICTURES.mkdir(parents=True, exist_ok=True)
    STORED.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page(results))
    for name, text in pictures(results).items():
        (PICTURES / name).write_text(text)


def main() -> None:
    """Evaluate and write the results; rows that are not asked for stay as they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", nargs="*", default=list(SMALL), choices=list(NETS))
    parser.add_argument("--roles", nargs="*", default=list(ROLES), choices=list(ROLES))
    parser.add_argument("--formats", nargs="*", default=[f.name for f in formats()])
    parser.add_argument("--page", action="store_true", help="write the page from stored rows, measure nothing")
    parser.add_argument("--no-write", action="store_true")
    args = parser.parse_args()
    if args.page:
        write(stored_results())
        return
    for name in args.nets:
        for role in args.roles:  # written after each: a long run that stops keeps what it has
            rows = evaluate(NETS[name], role, args.formats)
            if not args.no_write:
                nets = stored_results()
                write({**nets, name: merged(nets.get(name, {}), rows)})


if __name__ == "__main__":
    main()
