"""The page and the pictures of ``benchmarks.formats``, from its stored rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.scatter import Point, scatter_svg
from subbyte.formats.cards import card
from subbyte.formats.refusals import refused
from subbyte.formats.registry import formats, get_format

BUDGETS = (1.0, 1.6, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
COLOURS = {
    "even: integers": "#3b6fb6",
    "even: odd level counts": "#62a8c9",
    "even: mid-rise": "#5b4fa0",
    "powers of two": "#c8401f",
    "sums of powers of two": "#e0962a",
    "small floats": "#4f9a4a",
    "nf4": "#b03a8c",
}
_PREFIXES = {"pow2": "powers of two", "fp130": "powers of two", "apot": "sums of powers of two", "nf4": "nf4"}


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a format is tried as.

    Attributes:
        refusal: the role's name in the list of refusals.
        recipe: short name with a place for the format.
        title: heading.
        unit: of the stored bits.
    """

    refusal: str
    recipe: str
    title: str
    unit: str


ROLES = {
    "weights": Role(refusal="weight", recipe="w{}_a8_first_last_8", title="weights", unit="stored bits per weight"),
    "activations": Role(refusal="activation", recipe="wint8_a{}", title="operands", unit="stored bits per activation"),
}
Rows = Mapping[str, Mapping[str, Any]]


def even(name: str) -> bool:
    """Whether neighbouring values are equally far apart."""
    return len({b - a for a, b in pairwise(get_format(name).table)}) == 1


def stored_bits(name: str) -> float:
    """Per value in a long tensor, as packed in files."""
    return card(name).stored_bits


def measured(rows: Rows) -> list[str]:
    """Formats by stored bits, without those that are another one under a second name."""
    return sorted((n for n, row in rows.items() if "same_as" not in row), key=stored_bits)


def best(rows: Rows, budget: float, among: Sequence[str] | None = None) -> str | None:
    """The format of the largest SQNR with at most so many stored bits."""
    names = [n for n in (measured(rows) if among is None else among) if stored_bits(n) <= budget]
    return max(names, key=lambda n: float(rows[n]["sqnr_db"]), default=None)


def gain(rows: Rows, name: str) -> tuple[float, float] | None:
    """Decibels and points of agreement above the best evenly spaced format that is stored in no more bits."""
    rival = best(rows, stored_bits(name), [n for n in measured(rows) if even(n)])
    if rival is None or name not in rows:
        return None
    decibels, points = (float(rows[name][k]) - float(rows[rival][k]) for k in ("sqnr_db", "agreement"))
    return decibels, points


def page(results: Mapping[str, Any]) -> str:
    """Markdown."""
    nets = results["nets"]
    lines = ["# Every format on real networks", "", *_PREFACE, "", *_FINDINGS, ""]
    for role in ROLES:
        found = {name: net[role] for name, net in nets.items() if net.get(role)}
        lines += [*_winners(role, found), *_gains(role, found)]
    lines += _refusals()
    for name, net in nets.items():
        lines += _network(name, net)
    return "\n".join(lines)


_PREFACE = (
    "Made by `make bench-formats` (`python -m benchmarks.formats`): 256 unlabelled calibration samples (250 where a",
    "set of 500 is split: calibrate on one half, score the other, swap; of tiny_darknet's large images 64 calibrate",
    "and 250 are scored), default methods and ranges, m31 arithmetic, native engine. **Weights**: the format in all",
    "layers but the first and the last, which have 8 bits; operands are `uint8` (recipe",
    "`w<format>_a8_first_last_8`). **Operands**: what layers multiply has the format, but for",
    "the first and the last layer; weights are `int8` (recipe `wint8_a<format>`). Formats with fewer than 128 levels",
    "get the whole default stack, with coordinate descent up to 5 weight levels, and so do operands of `fp8_e4m3fn`;",
    "where a network has nothing but other formats of 128 levels and more (`int7`, `int8`, `uint7`, `uint8`,",
    "`levels255`, weights of `fp8_e4m3fn`, `int16`), the default is bias correction alone, so that formats with fewer",
    "levels may beat them. With `int16` all layers and",
    "everything between them have 16 bits.",
    "",
    "SQNR: of the network's outputs against the float network's, over all scored samples; agreement: the same top-1",
    "as float32; drop: float32 minus quantized top-1 in points, with its 95 % paired interval. Stored bits are those",
    "of packed files; operands are bytes in memory whatever their format (`int16`: two each), and their",
    "stored bits say what they would take. Agreement of 95 % has a 95 % interval of ±1.9 points among 500 samples,",
    "±0.6 among 5,000. Nothing was tuned here: every legal format is shown. What is called best has the",
    "largest SQNR on the very samples that are shown, so neighbours within a few tenths of a decibel are equals. Of",
    "`levels<N>` the 21 counts of maximal pairs are tried. Formats with the same values were measured once; as",
    "operands that is so for consecutive values as many, which a zero point moves.",
)

_FINDINGS = (
    "## What the figures say",
    "",
    "- **Weights: the number of levels decides, hardly where they lie.** A bit is worth about 5 dB until what stays",
    "  at 8 bits limits the outputs (23 dB on honk_res8, 41 dB on mnist_mlp, 4 % of whose weights have the format).",
    "  At 4 bits `nf4`, `apot4` and `fp4_e2m1` are within a decibel of even spacing, here ahead, there behind, and",
    "  so is `fp6_e2m3` at 6; agreement moves by up to 2 points, in no common direction. On tiny_darknet, the largest",
    "  and the only one for ImageNet, values near 0 are worth something: there `nf4` is 2.0 dB and 8 points ahead of",
    "  `int4`, `fp4_e2m1` 1.6, `apot4` 0.8, `fp6_e2m3` and `apot5` 1.3 and 1.2 of the integers of as many bits.",
    "- **Powers of two pay at 7 levels, if anywhere**: `pow2_e3`, stored like `levels7`, is ahead by 0.6 to 1.2 dB",
    "  on all networks but mnist_mlp; `int3`, for 0.09 bits more, is ahead of it again, dscnn_kws apart. More",
    "  exponents add values next to 0 that hardly count: at 4 bits `pow2_e7` and `fp130` are 1.1 to 5.1 dB behind",
    "  even spacing there. `pow2_e3_nozero` is ahead on some networks only because nothing even is stored in 2.4 to",
    "  2.9 bits: it lies on or below the line from `levels5` to `levels7`. `apot5` and `apot6` are behind, but for",
    "  tiny_darknet.",
    "- **Operands: even spacing, but on honk_res8.** Behind ReLU operands have one sign. A zero point moves",
    "  consecutive values there; uneven ones have none, nor has mid-rise, and half of their values stay unused. On",
    "  mnist_mlp, dscnn_kws, the ResNets, vww and tiny_darknet nothing uneven is ahead at any number of bits. On",
    "  honk_res8, where a batch norm gives every other layer operands of both signs, powers of two of 6 and 7",
    "  exponents, `apot5`, `apot6` and `fp6_e3m2` are up to 2.5 dB ahead; why was not looked into. `fp8_e4m3fn` is a",
    "  decibel ahead of `uint8` there, its equal on dscnn_kws, and 5 to 12 dB behind elsewhere.",
    "- **7 bits with bias correction alone can be worse than fewer bits with all methods**: `uint7` operands leave",
    "  10.4 dB on honk_res8, `uint6` 19.3, `levels127` 21.7. Name the methods in the recipe there. In the same way",
    "  `int8` weights are 1.3 dB behind `levels127` on resnet8, while on dscnn_kws they are 2 dB ahead. `fp8_e4m3fn`",
    "  weights, whose small values are dense and whose large ones are not, lose 2 to 12 dB to even spacing of 8 bits.",
    "- **What to take for weights**: `ternary` (1.6 bits) is about 2 dB behind 2 bits and 2 to 6 ahead of `binary`;",
    "  `int2` and `midrise2` are about a decibel apart at most, in no common direction; `int3` keeps 91 to 96 % of",
    "  answers on dscnn_kws, honk_res8, the ResNets and vww, `int4` 95 to 98 %; of a thousand classes (tiny_darknet)",
    "  72 and 80 %. Odd level counts between the integers roughly lie on one line with them: take one where a byte",
    "  budget falls between two integers.",
)


def _names(rows: Rows, name: str) -> str:
    """A format with its second names."""
    return ", ".join([name, *(n for n, row in rows.items() if row.get("same_as") == name)])


def _winners(role: str, found: Mapping[str, Rows]) -> list[str]:
    """The best format at each number of bits."""
    lines = [f"## {ROLES[role].title.capitalize()}: best at each number of bits", ""]
    lines += [f"The largest SQNR (dB) with at most so many {ROLES[role].unit}, and its agreement (%).", ""]
    lines += [f"| bits | {' | '.join(found)} |", "|--:|" + "---|" * len(found)]
    for budget in BUDGETS:
        cells = []
        for rows in found.values():
            name = best(rows, budget)
            row = rows[name] if name else {}
            cells.append(f"{name} {row['sqnr_db']:.1f}, {row['agreement']:.1f}" if name else "")
        lines.append(f"| {budget:g} | {' | '.join(cells)} |")
    return [*lines, ""]


_GAINS = (
    "Decibels of SQNR above the best evenly spaced format (integers, odd level counts, mid-rise) that is stored in no",
    "more bits; behind them the mean over networks, and that of agreement in points.",
)


def _gains(role: str, found: Mapping[str, Rows]) -> list[str]:
    """Where uneven spacing pays."""
    names = [f.name for f in formats() if not even(f.name) and any(f.name in measured(r) for r in found.values())]
    lines = [f"## {ROLES[role].title.capitalize()}: what uneven spacing gains", ""]
    lines += [*_GAINS, ""]
    lines += [f"| format | bits | {' | '.join(found)} | mean dB | mean points |", "|---|" + "--:|" * (len(found) + 3)]
    verdicts: dict[str, list[str]] = {"all": [], "some": [], "none": []}
    for name in sorted(names, key=stored_bits):
        each = [gain(rows, name) for rows in found.values()]
        known = [g for g in each if g is not None]
        if not known:
            continue
        cells = [f"{g[0]:+.1f}" if g else "" for g in each]
        means = [sum(g[i] for g in known) / len(known) for i in (0, 1)]
        lines.append(f"| {name} | {stored_bits(name):.2f} | {' | '.join(cells)} | {means[0]:+.1f} | {means[1]:+.1f} |")
        ahead = sum(g[0] > 0 for g in known)
        verdicts["all" if ahead == len(known) else "some" if ahead else "none"].append(
            name if ahead in {0, len(known)} else f"{name} ({ahead})"
        )
    told = {k: ", ".join(v) or "no format" for k, v in verdicts.items()}
    return [
        *lines,
        "",
        f"Ahead on all of the {len(found)} networks: {told['all']}. On some of them (how many): {told['some']}.",
        f"On none, so that uneven spacing does not help: {told['none']}.",
        "",
    ]


def _refusals() -> list[str]:
    lines = ["## Formats that were not tried", "", "| as | formats | reason |", "|---|---|---|"]
    for role in ROLES.values():
        reasons: dict[str, list[str]] = {}
        for f in formats():
            line = refused(f, role.refusal)
            if line is not None:
                reasons.setdefault(line.reason, []).append(f.name)
        lines += [f"| {role.title} | {', '.join(names)} | {reason} |" for reason, names in reasons.items()]
    return [*lines, ""]


def _network(name: str, net: Mapping[str, Any]) -> list[str]:
    head = net["float32"]
    top = f"float32 top-1 {head['top1']:.2f} %" if "top1" in head else "no labels here"
    lines = [f"## {name}", "", f"{head['samples']:,} scored samples, {top}.", ""]
    for role, rows in ((r, net[r]) for r in ROLES if net.get(r)):
        share = net["shares"][role]
        what = "of the weights have" if role == "weights" else "of the layers multiply operands of"
        lines += [f"### {name}: {ROLES[role].title}", "", f"{share:.1f} % {what} the format; the rest stays at 8 bits."]
        lines += ["", f"![{ROLES[role].title}](formats/{name}_{role}.svg)", ""]
        lines += ["| format | stored bits | bits of information | SQNR dB | agreement % | drop (points) | file bytes |"]
        lines += ["|---|--:|--:|--:|--:|--:|--:|"]
        for n in measured(rows):
            row, c = rows[n], card(n)
            drop = f"{row['drop']:+.2f} ± {row['interval']:.2f}" if "drop" in row else "-"
            lines.append(
                f"| {_names(rows, n)} | {c.stored_bits:.2f} | {c.bits:.2f} | {row['sqnr_db']:.1f} | "
                f"{row['agreement']:.1f} | {drop} | {row['bytes']:,} |"
            )
        lines.append("")
    return lines


def group(name: str) -> str:
    """The legend's entry of a format."""
    for prefix, found in _PREFIXES.items():
        if name.startswith(prefix):
            return found
    if name.startswith("fp"):
        return "small floats"
    if name.startswith(("levels", "ternary")):
        return "even: odd level counts"
    return "even: mid-rise" if name.startswith(("midrise", "binary")) else "even: integers"


def pictures(results: Mapping[str, Any]) -> dict[str, str]:
    """SVG by file name: SQNR and agreement over stored bits, of each network and role."""
    made = {}
    for name, net in results["nets"].items():
        for role, rows in ((r, net[r]) for r in ROLES if net.get(r)):
            winners = {best(rows, budget) for budget in BUDGETS}
            points = [
                Point(
                    name=n,
                    group=group(n),
                    x=stored_bits(n),
                    ys=(float(rows[n]["sqnr_db"]), float(rows[n]["agreement"])),
                    labelled=n in winners,
                )
                for n in measured(rows)
            ]
            title = f"{name}, {ROLES[role].title}; the line joins what even spacing reaches"
            names = ("output SQNR (dB)", "agreement with float32 (%)")
            made[f"{name}_{role}.svg"] = scatter_svg(title, ROLES[role].unit, names, points, COLOURS, "even")
    return made
