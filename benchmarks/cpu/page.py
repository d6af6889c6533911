"""Writes docs/results/cpu.md from the answers in benchmarks/results; low figures are shown like high ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cpu.report import RESULTS

PAGE = RESULTS.parents[1] / "docs" / "results" / "cpu.md"
Case = dict[str, Any]

INTRODUCTION = """\
# Speed on a CPU

Made by `make bench`. One thread unless said; times are calls from Python. All runners of a case take turns in one
process, round by round; a ratio is (fastest peer's best call) / (our best call) within a round, and the median over
the rounds is shown, so above 1 we are faster. Times are minima over all rounds; medians and quantiles are in
`benchmarks/results/cpu_*.json`. Before anything is timed, our integers are compared with the NumPy reference and every
peer's answer with ours.

Who has it easier: peers' inputs are bound before the call and LiteRT gets channels-last inputs, while our call takes
its NumPy array and transposes where the network says so. LiteRT int8 and our `w8a8` row take 8-bit codes; ONNX Runtime
and OpenVINO take float32 and round it inside, as our `float in` column does.

*Ceiling* is the ratio that an engine would reach that spends no more than the *least time* of each operator and of the
call; a target above it is out of reach here, and a figure beyond it is marked, since then the roof was not one. The
least time of an operator is the longer of its arithmetic and its bytes, each at a rate measured in the same run on one
core (`benchmarks/roofs.cpp`, `native/src/roof_loops.h`; `Roof` in `src/subbyte/runtime/profile.py` is the rule):

- products at the int8 peak, from registers: `vpdpbusd`; on AVX2 `vpmaddubsw` + `vpmaddwd` + `vpaddd`, or
  `vpmaddubsw` + `vpaddw` for (31, 17) levels, whose sums fit 16 bits (`vpdpbusd_512`, `maddubs_maddwd_256`,
  `maddubs_addw_256`); on AVX2, where weights do not prove that two products fit 16 bits (most of `w8a8`), those of both
  halves of the weights, the fewest instructions known here that are exact for any bytes (`wide_256`);
- added to them, int32 sums to stored bytes by the cheapest exact rule, one float32 multiply-add per result and two
  saturating packs: not what that takes alone (`rescale_512`, `rescale_256`) but by how much it slows products down that
  it is mixed with (`rescale_beside_512`, `rescale_beside_256`), which is less where it uses other units;
- 3x3 depthwise convolutions, instead of both: four rows interleaved to dwords by 8 byte and word shuffles per 64
  channels, 24 `vpdpbusd` and two rescales for two rows of results; on AVX2 nine products summed in 16 bits,
  or where weights do not allow that both their halves (`depthwise_512`, `depthwise_256`, `wide_depthwise_256`). All in
  the first cache, weights in registers. The up to 16 channels that whole vectors of 64 leave over lie at four pixels:
  each pixel's four rows are two loads and two inserts, one shuffle brings them into order, and four results are stored
  one by one (`depthwise_pieces_512`);
- bytes of activations, read or written, at the rate of the first cache (`read_16k`); bytes of weights at that of the
  cache that could hold all weights and activations of the network (`read_16k`, `read_512k`, `read_8m`);
- the call: one from Python, the same one, of a network that computes nothing.

Formats of few bits are held against what they are computed by: looking up and adding a byte, which stands for two or
four products (`shuffle_256`), or counting the bits that two planes share (`popcount_512`).

† marks cases timed beside other work (somebody's median call took over 1.5 times its fastest, or had a core for less
than 93 % of its turns): ask them again on a quiet machine.
"""

QUESTIONS = (
    ("nets", "Whole networks"),
    ("layers", "Convolutions, 8-bit codes in and out, rescale included"),
    ("gemm", "Matrix products, 8-bit activations"),
    ("formats", "One large product in every family of formats"),
    ("floor", "What a call costs"),
    ("threads", "Two threads"),
    ("load", "Load and prepare"),
    ("nets_avx2", "Whole networks, AVX2 only"),
    ("layers_avx2", "Convolutions, AVX2 only"),
    ("formats_avx2", "One large product in every family of formats, AVX2 only"),
    ("neon", "Inner loops for 64-bit ARM"),
)
TOLERANCE = 1.02
"""Roofs and figures are measured one after the other, on a clock that moves."""

BITS_MATTER = {"nets", "layers", "gemm", "nets_avx2", "layers_avx2"}
HELD = """\
OpenVINO is held to AVX2; ONNX Runtime and LiteRT cannot be and stay on AVX-512: in parentheses, and not counted.
OpenVINO's int8 saturates sums of two products at 16 bits there, so its codes differ from the exact ones; ours do not.
"""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table with figures to the right."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def _title(case: Case) -> str:
    return f"{case['title']} †" if case["disturbed"] else str(case["title"])


def _us(value: float) -> str:
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _best(case: Case, kind: str) -> str:
    """The fastest peer of a kind that counts, with its name; the fastest of those that do not in parentheses."""
    rows = {name: row for name, row in case["rows"].items() if row["kind"] == kind}
    parts = []
    for counts, form in ((True, "{} {}"), (False, "({} {})")):
        some = {name: row for name, row in rows.items() if row["counts"] == counts}
        if some:
            name = min(some, key=lambda n: some[n]["min_us"])
            shown = name.removesuffix(f" {kind}")
            parts.append(form.format(shown, _us(some[name]["min_us"])))
    return " ".join(parts) or "-"


def _ours(case: Case) -> list[str]:
    return [name for name, row in case["rows"].items() if row["kind"] == "ours"]


def fewer_bits(cases: Sequence[Case]) -> list[str]:
    """What our formats below the first gain over it in these cases, as measured, so that no text can claim more."""
    gains: dict[str, list[float]] = {}
    first = _ours(cases[0])[0]
    for case in cases:
        for name in _ours(case)[1:]:
            if "float" not in name and " x" not in name:
                gain = case["rows"][first]["min_us"] / case["rows"][name]["min_us"]
                gains.setdefault(name, []).append(gain)
    if not gains:
        return []
    spans = ", ".join(f"{name} {min(g):.2f}x to {max(g):.2f}x" for name, g in gains.items())
    return [f"Fewer bits against our own {first} (below 1.00x they do not help): {spans}.", ""]


def comparison(cases: Sequence[Case]) -> list[str]:
    """Best peers and all of ours side by side, then the ratios of the first of ours."""
    names = list(dict.fromkeys(name for case in cases for name in _ours(case)))
    kinds = [k for k in ("fp32", "int8", "int4") if any(_best(c, k) != "-" for c in cases)]
    head = ["microseconds", *(f"best {k} peer" for k in kinds), *(n.replace(" float", ", float in") for n in names)]
    first = names[0]
    head += [f"{first}: over int8", "over fp32"] if "fp32" in kinds else [f"{first}: over int8"]
    rows = []
    for case in cases:
        row = [_title(case), *(_best(case, k) for k in kinds)]
        row += [_us(case["rows"][n]["min_us"]) if n in case["rows"] else "-" for n in names]
        ratio = case["ratios"].get(first, {})
        row += [f"{ratio[k]['median']:.2f}x" if k in ratio else "-" for k in ("int8", "fp32")[: len(head) - len(row)]]
        rows.append(row)
    return table(head, rows)


def rates(cases: Sequence[Case]) -> list[str]:
    """Formats of one product: speed, share of the peak, and over our own int8."""
    lines: list[str] = []
    for case in cases:
        rows = [
            [
                name,
                _us(row["min_us"]),
                f"{row['gmacs']:.0f}",
                f"{row['of_peak']:.2f}",
                f"{case['over_w8a8'][name]:.2f}x",
                f"{case['over_w8a7'][name]:.2f}x",
            ]
            for name, row in case["rows"].items()
        ]
        head = [_title(case), "microseconds", "GMAC/s", "of the int8 peak", "over w8a8", "over range-planned w8a7"]
        lines += table(head, rows)
    return lines


def forms(cases: Sequence[Case]) -> list[str]:
    """Loops counted in the disassembly; their text is in docs/native-arm.md."""
    head = ["form", "tile", "instructions", "per multiply-accumulate", "of int8"]
    rows = [
        [f["form"], f["tile"], str(f["instructions"]), f"{f['per_mac']:.3f}", f"{f['of_int8']:.2f}"]
        for case in cases
        for f in case["forms"]
    ]
    return table(head, rows) if rows else ["Not counted: there is no cross-compiler.", ""]


def breakdowns(cases: Sequence[Case]) -> list[str]:
    """Where our int8 time goes, and how near each kind of operator is to the machine's roof."""
    shown = [case for case in cases if "profile" in case]
    kinds = list(dict.fromkeys(kind for case in shown for kind in case["profile"]["kinds"]))
    rows = [
        [
            str(case["title"]),
            *(_us(case["profile"][name]) for name in ("operators_us", "call_us")),
            _us(case["least_us"]["w8a8"]) if "least_us" in case else "-",
            *(_share(case["profile"]["kinds"].get(kind)) for kind in kinds),
        ]
        for case in shown
    ]
    if not rows:
        return []
    head = ["w8a8, microseconds (share of the roof)", "all operators", "call from Python", "least time", *kinds]
    return ["Where the time goes, measured inside the engine around each operator:", "", *table(head, rows)]


def _share(kind: Case | None) -> str:
    return f"{_us(kind['us'])} ({kind['of_roof']:.0%})" if kind else "-"


def targets(results: dict[str, Any]) -> list[str]:
    """Every target of the milestone with what was reached."""
    rows = []
    for result in results.values():
        for t in result["targets"]:
            sign = "≤" if t["at_most"] else "≥"
            ceiling = f"{t['ceiling']:.2f}" if "ceiling" in t else ""
            rows.append([t["what"], f"{sign} {t['target']:g} {t['unit']}", f"{t['value']:.2f}", ceiling, _verdict(t)])
    met = sum(t["met"] for result in results.values() for t in result["targets"])
    return [f"{met} of {len(rows)} met.", "", *table(["what", "target", "measured", "ceiling", ""], rows)]


def beyond(target: Case) -> bool:
    """Whether a figure is better than its roof allows: one of the two is wrong."""
    return "ceiling" in target and not target["at_most"] and target["value"] > TOLERANCE * target["ceiling"]


def _verdict(target: Case) -> str:
    out_of_reach = "ceiling" in target and target["ceiling"] < target["target"]
    missed = f"not counted: {target['invalid']}" if target["invalid"] else "**missed**"
    verdict = "met" if target["met"] else "**above the ceiling**" if out_of_reach else missed
    verdict += ", beyond its roof" if beyond(target) else ""
    return f"{verdict} †" if target["disturbed"] else verdict


def slow_cases(results: dict[str, Any]) -> list[str]:
    """Everything at 8 bits that the best peer does faster, worst first."""
    found = []
    for question, result in results.items():
        for case in result["cases"]:
            for name in _ours(case)[:1]:
                ratio = case["ratios"].get(name, {}).get("peer")
                if ratio and ratio["median"] < 1:
                    found.append((ratio["median"], [case["title"], question, name, f"{ratio['median']:.2f}x"]))
    rows = [row for _, row in sorted(found)]
    return table(["case", "question", "ours", "against the best peer"], rows) if rows else ["None.", ""]


def machine(result: dict[str, Any]) -> list[str]:
    """Facts and roofs, in a few lines."""
    facts, roofs = result["machine"], result["roofs"]
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    units = {"read": "GB/s", "rescale": "G results/s"}
    shown = ", ".join(f"{n} {value:.0f} {units.get(n.split('_')[0], 'GMAC/s')}" for n, value in roofs.items())
    floor = f" A call that computes nothing: {result['call_floor_us']:.2f} us." if "call_floor_us" in result else ""
    return [
        f"{facts['processor']}, {facts['cores']} cores, {', '.join(facts['isa'])}.",
        f"Python {facts['python']}, {packages}.",
        f"Roofs of one core (`benchmarks/roofs.cpp`): {shown}.{floor}",
        "",
    ]


def page(results: dict[str, Any]) -> str:
    """The document."""
    lines = [INTRODUCTION, *machine(next(iter(results.values()))), "## Targets", "", *targets(results)]
    lines += ["## Where a peer is faster than our int8", "", *slow_cases(results)]
    for question, title in QUESTIONS:
        if question in results:
            cases = results[question]["cases"]
            lines += [f"## {title}", ""]
            lines += [HELD] if question in {"nets_avx2", "layers_avx2"} else []
            lines += fewer_bits(cases) if question in BITS_MATTER else []
            lines += _tables(question, cases)
    return "\n".join(lines).rstrip() + "\n"


def _tables(question: str, cases: Sequence[Case]) -> list[str]:
    if question == "neon":
        return forms(cases)
    if question.startswith("formats"):
        return rates(cases)
    return [*comparison(cases), *breakdowns(cases)]


def write_page(folder: Path = RESULTS, target: Path = PAGE) -> Path:
    """Read the answers that are there, write the page, return its path."""
    files = {question: folder / f"cpu_{question}.json" for question, _ in QUESTIONS}
    results = {question: json.loads(file.read_text()) for question, file in files.items() if file.exists()}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(results), encoding="utf8")
    return target
