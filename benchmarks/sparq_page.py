"""The page of ``benchmarks.sparq``, from its stored rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from subbyte.formats.trims import Pairing, Trim, get_trim, is_trim

Rows = Mapping[str, Mapping[str, Any]]
CONFIGURATIONS = tuple(f"w{bits} {stack}" for bits in (8, 4) for stack in ("none", "bn", "default"))
FOUR = ("4_5opt", "4_3opt", "4_2opt")
PAIRINGS: tuple[Pairing, ...] = ("none", "pairs")
SLACK = 0.05
"""Decibels that are no difference."""


class Claim(NamedTuple):
    """What theory expects: the first row of a network is no worse than the second."""

    kind: str
    better: str
    worse: str


def claims() -> Iterator[Claim]:
    """All that is expected of windows of four bits, by operand."""

    def name(option: str, rounded: bool, pairing: Pairing) -> str:
        return Trim(option=option, rounded=rounded, pairing=pairing).name

    for option, coarser in zip(FOUR, (*FOUR[1:], ""), strict=True):
        for rounded in (False, True):
            for pairing in PAIRINGS:
                if coarser:
                    yield Claim("more places", name(option, rounded, pairing), name(coarser, rounded, pairing))
        for pairing in PAIRINGS:
            yield Claim("rounding", name(option, True, pairing), name(option, False, pairing))
        for rounded in (False, True):
            yield Claim("pairs", name(option, rounded, "pairs"), name(option, rounded, "none"))


def row(rows: Rows, operand: str, configuration: str) -> Mapping[str, Any] | None:
    """A stored row, if it was measured."""
    bits, stack = configuration.split()
    return rows.get(f"{bits} {operand} {stack}")


def verdicts(rows: Rows) -> Iterator[tuple[Claim, str, float]]:
    """Every claim whose rows are there: the configuration, and by how many decibels it holds."""
    for claim in claims():
        for configuration in CONFIGURATIONS:
            better, worse = (row(rows, operand, configuration) for operand in (claim.better, claim.worse))
            if better is not None and worse is not None:
                yield claim, configuration, float(better["sqnr_db"]) - float(worse["sqnr_db"])


def page(results: Mapping[str, Any], times: Mapping[str, Any] | None = None) -> str:
    """Markdown."""
    nets: Mapping[str, Any] = results["nets"]
    lines = ["# SPARQ on real networks", "", *_PREFACE, "", *_FINDINGS, ""]
    lines += [*_order(nets), *_proxy(results["proxy"])]
    lines += _times(times) if times else []
    for name, net in nets.items():
        lines += _network(name, net)
    return "\n".join(lines).rstrip() + "\n"


_PREFACE = (
    "Made by `make bench-sparq` (`python -m benchmarks.sparq`): 256 unlabelled calibration samples, m31 arithmetic,",
    "native engine; where a set of 500 is split in two, one half calibrates and the other is scored (64 of",
    "tiny_darknet's large images calibrate). First and last layers keep 8-bit weights and operands, all others get",
    "the weights and operands of the table (recipe `w<format>_a<operand>_first_last_8`). What trims are, and their",
    "names: [sparq.md](../sparq.md).",
    "",
    "- `none`: weights rounded to nearest (min-max at 8 bits, least squared error at 4), nothing behind it.",
    "- `bn`: `batch_norm_reestimation` alone, the paper's own remedy: channel means and variances of the float network",
    "  are restored, layer by layer behind the trimmed prefix.",
    "- `default`: the methods that a recipe with trims gets unasked: refit, rescale, gptq, bias correction; all see",
    "  trimmed operands.",
    "- `uint4` has its best clip under `none` and `bn` (`output_error_clipping`); under `default` its usual ranges.",
    "",
    "Cells are the SQNR of the outputs against the float network's in dB, and how many per cent of top-1 answers are",
    "those of the float network (of 250 answers 95 % has an interval of ±2.7 points, of 5,000 ±0.6). Bits are those",
    "stored, without the sign of operands that have a zero point; under `_v` depthwise layers keep all 8. Nothing was",
    "tuned here; empty cells were not measured.",
)

_FINDINGS = (
    "## What the figures say",
    "",
    "- **Windows of four bits come near 8 bits where plain four bits do not.** With 8-bit weights and `bn`,",
    "  `sparq4_5opt_round_v` has 35.8 dB on mnist_mlp (8 bits 40.7, 4 bits 26.2), 24.4 on resnet8 (27.8 and 14.1) and",
    "  30.3 on vww (33.6 and 15.1). On tiny_darknet they make the difference between a network and none: 82 % of",
    "  answers stay, 93 with 8 bits, 54 with 4. `sparq4_2opt` truncated is behind plain 4 bits at their best clip (on",
    "  tiny_darknet only without `bn`); rounded it is their equal under `none` (0.9 dB behind on dscnn_kws, 0.2 on",
    "  resnet20; 0.6 to 1.2 ahead on mnist_mlp, resnet8, vww and tiny_darknet).",
    "- **Truncation moves means, and that can be taken back.** Behind nothing it loses 5 to 11 dB against rounding on",
    "  all networks but honk_res8 (2 to 9); `bn` takes back most of it (resnet8, `sparq4_5opt`: 13.9 becomes 22.1,",
    "  rounded 21.0 and 22.7). Who cannot correct a network should round.",
    "- **Pairs give 1 to 2 dB where a third of the operand is 0**, as theory says; on vww 3 to 10, because half of",
    "  its layers are depthwise and pairs leave those untrimmed: without `_v` they are the ones that suffer. Behind",
    "  the leaky ReLUs of tiny_darknet 1 to 13 % are 0, and they give nothing.",
    "- **With 4-bit weights rounded to nearest the weights decide**: on resnet8 four bits in five or three places",
    "  are within 1 dB of 8 bits under `bn`. The default methods bring the weights up, and then operands count",
    "  again: 19.4 dB with 8 bits, 18.7 with `sparq4_5opt_round_v`, 13.3 with `uint4`. On tiny_darknet 4-bit weights",
    "  leave nothing at all without a method behind them.",
    "- **A shared window costs 2 to 5 dB beside one's own and is 2.5 to 9 dB ahead of plain 4 bits**, at 4.19",
    "  stored bits instead of 4: `sparq4_5opt_round_shared16`, default methods, six networks, with 8-bit and",
    "  with 4-bit weights (mnist_mlp 29.2 against 26.6 with 8, honk_res8 19.9 against 11.5).",
    "- **Fewer bits in finer places**: `sparq3_6opt_round_v` (19.6 dB on resnet8 under `bn`) is ahead of four bits in",
    "  two places (16.3), two bits (13.7) are not; six bits are 8 bits in all but name (27.6 of 27.8), and take as",
    "  many.",
    "- **The order holds, but for what corrections add** (next section): outside honk_res8 no exception is larger",
    "  than 1 dB, and layer by layer the operand is in the expected order in all of them but for one layer of vww.",
    "  What turns around is how layers' errors add up: what `bn` restores of a truncated network can be a little more",
    "  than of a rounded one, and 4-bit weights rounded to nearest hide tenths of a decibel.",
    "- **Pairs beside weights pruned 2:4** (`_stc`, resnet8 and vww) are worth what pairs of neighbours are.",
    "- **honk_res8 under `bn` says nothing about trims**: plain 8 bits have 8.7 dB there against 18.1 without it. Its",
    "  batch norm `bn1` follows a ReLU, and restoring its channels' spreads takes that value from 22.0 to 6.8 dB with",
    "  plain 8 bits too; [ptq.md](ptq.md) has the same at every recipe. Under `none` the network is limited by means",
    "  that nothing corrects, so that rounded options differ by tenths.",
)


def _order(nets: Mapping[str, Any]) -> list[str]:
    """How often theory holds, and every place where it does not."""
    lines = ["## Does the order hold?", "", *_ORDER, ""]
    kinds = ("more places", "rounding", "pairs")
    lines += [f"| network | {' | '.join(kinds)} |", "|---|" + "---|" * len(kinds)]
    broken: list[str] = []
    for name, net in nets.items():
        found = list(verdicts(net["rows"]))
        cells = []
        for kind in kinds:
            gains = [gain for claim, _, gain in found if claim.kind == kind]
            held = sum(gain >= -SLACK for gain in gains)
            cells.append(f"{held} of {len(gains)}, mean {sum(gains) / len(gains):+.1f} dB" if gains else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
        broken += [_exception(name, net, *verdict) for verdict in found if verdict[2] < -SLACK]
    lines += [
        "",
        "Exceptions, with the layers' own errors behind them (in how many each alone is in the expected order):",
        "",
    ]
    lines += ["| network | weights, methods | expected | dB | layers: operand better | layers: result better |"]
    lines += ["|---|---|---|--:|--:|--:|", *broken, ""]
    return lines


_ORDER = (
    "More places for a window should be no worse (5opt, 3opt, 2opt), nor rounding than truncating, nor pairs than",
    "none. For the operand alone that is so by construction: more places mean smaller steps, a rounded code is no",
    "further away than a truncated one, and a partner's bits only add. Below: how often the network's outputs agree,",
    "over all measured pairs of rows of windows of four bits.",
)


def _exception(name: str, net: Mapping[str, Any], claim: Claim, configuration: str, gain: float) -> str:
    layers = net.get("layers", {})
    cells = []
    for key in ("operand_db", "result_db"):
        both = zip(layers.get(claim.better, ()), layers.get(claim.worse, ()), strict=False)
        held = [a[key] >= b[key] for a, b in both]
        cells.append(f"{sum(held)} of {len(held)}" if held else "")
    expected = f"{claim.better} ≥ {claim.worse}"
    return f"| {name} | {configuration} | {expected} | {gain:+.1f} | {' | '.join(cells)} |"


def _proxy(proxy: Mapping[str, float]) -> list[str]:
    """What to expect of ReLU outputs, half of which are 0."""
    lines = ["## What theory expects", "", *_PROXY, ""]
    lines += ["| option | truncated | rounded | truncated, pairs | rounded, pairs |", "|---|--:|--:|--:|--:|"]
    options = dict.fromkeys(get_trim(n).option for n in proxy if is_trim(n))
    for option in options:
        names = [Trim(option=option, rounded=r, pairing=p).name for p in PAIRINGS for r in (False, True)]
        lines.append(f"| {option} | " + " | ".join(f"{proxy[n]:.1f}" for n in names) + " |")
    for shared in (16, 32):
        names = [Trim(option="4_5opt", rounded=r, shared=shared).name for r in (False, True)]
        lines.append(
            f"| 4_5opt, window shared by {shared} | " + " | ".join(f"{proxy[n]:.1f}" for n in names) + " | | |"
        )
    return [*lines, "", f"Plain 8-bit codes: {proxy['uint8']:.1f} dB.", ""]


_PROXY = (
    "SQNR (dB) of half-normal numbers of which half are 0, on 8-bit codes whose range ends at 4 standard deviations;",
    "nothing else is in it.",
)


def _times(times: Mapping[str, Any]) -> list[str]:
    """What software pays and saves."""
    lines = ["## What it costs on a CPU", "", *_COST, ""]
    lines += ["| network | " + " | ".join(times["recipes"]) + " |", "|---|" + "--:|" * len(times["recipes"])]
    for name, found in times["networks"].items():
        plain = found[times["recipes"][0]]
        cells = [f"{us:.0f} µs ({us / plain:.2f})" for us in (found[r] for r in times["recipes"])]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", *_PACKED, "", "| codes | trim | bytes per code | pack | unpack | copy | unpack / copy |"]
    lines += ["|---|---|--:|--:|--:|--:|--:|"]
    for found in times["packed"]:
        speeds = " | ".join(f"{found[key]:.1f}" for key in ("pack", "unpack", "copy"))
        size = f"{found['codes'] / 2**20:.0f} MiB" if found["codes"] >= 2**20 else f"{found['codes'] / 2**10:.0f} KiB"
        lines.append(f"| {size} | {found['trim']} | {found['bytes_per_code']:.3f} | {speeds} | {found['ratio']:.1f} |")
    return [*lines, ""]


_COST = (
    "One sample, one thread, median of paired rounds in turns (`python -m benchmarks.sparq_time`); in brackets beside",
    "plain 8 bits. A trim is a pass over the operand that a plain layer does not make; nothing gets cheaper by it.",
)

_PACKED = (
    "Codes with shared windows as bytes (`pack_shared`), GB of codes a second on one core; the copy is of the plain",
    "codes, and the last column the median of paired ratios of time:",
)


def _network(name: str, net: Mapping[str, Any]) -> list[str]:
    rows, head = net["rows"], net["float32"]
    top = f"float32 top-1 {head['top1']:.2f} %" if "top1" in head else "no labels here"
    lines = [f"## {name}", "", f"{head['samples']} scored samples, {top}.", ""]
    heads = [c.replace("w", "W", 1) for c in CONFIGURATIONS]
    lines += [f"| operand | bits | {' | '.join(heads)} |", "|---|--:|" + "---|" * len(heads)]
    for operand in dict.fromkeys(key.split()[1] for key in _sorted(rows)):
        found = [row(rows, operand, c) for c in CONFIGURATIONS]
        cells = [f"{r['sqnr_db']:.1f}, {r['agreement']:.1f}" if r else "" for r in found]
        bits = get_trim(operand).stored_bits if is_trim(operand) else float(operand.removeprefix("uint"))
        lines.append(f"| {operand} | {bits:.4g} | {' | '.join(cells)} |")
    return [*lines, "", *_pruned(name, net.get("pruned", {})), *_layers(name, net.get("layers", {}))]


def _sorted(rows: Rows) -> list[str]:
    """Row names: plain codes, then trims by bits, places, rounding and pairs."""

    def place(key: str) -> tuple[Any, ...]:
        operand = key.split()[1]
        if not is_trim(operand):
            return (0, -int(operand.removeprefix("uint")))
        trim = get_trim(operand)
        order = {"4_5opt": 1, "4_3opt": 2, "4_2opt": 3, "6_3opt": 5, "3_6opt": 6, "2_7opt": 7}[trim.option]
        return (4 if trim.shared else order, trim.shared, trim.pairing == "pairs", trim.rounded)

    return sorted(rows, key=place)


_BESIDE_PRUNED = (
    "All convolutions but the first pruned 2:4 by magnitude, without training, 8-bit weights; SQNR (dB) and agreement",
    "against that pruned float network. Under `_stc` the pairs are the two inputs of four that meet a weight.",
)


def _pruned(name: str, rows: Rows) -> list[str]:
    if not rows:
        return []
    lines = [f"### {name}: beside weights pruned 2:4", "", *_BESIDE_PRUNED, ""]
    lines += ["| operand | W8 none | W8 bn |", "|---|---|---|"]
    for operand in dict.fromkeys(key.split()[1] for key in rows):
        found = [row(rows, operand, f"w8 {stack}") for stack in ("none", "bn")]
        cells = [f"{r['sqnr_db']:.1f}, {r['agreement']:.1f}" if r else "" for r in found]
        lines.append(f"| {operand} | {' | '.join(cells)} |")
    return [*lines, ""]


def _layers(name: str, layers: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Each layer alone: what the trim does to its operand, and what that does to its result."""
    shown = [Trim(option=o, rounded=r).name for o in FOUR for r in (False, True)]
    if not all(trim in layers for trim in shown):
        return []
    lines = [f"### {name}: layer by layer", "", *_LAYERS, ""]
    short = [t.removeprefix("sparq") for t in shown]
    lines += [f"| layer | zeros % | whole in pairs % | {' | '.join(short)} |", "|--:|--:|--:|" + "---|" * len(shown)]
    pairs = layers[Trim(option="4_5opt", pairing="pairs").name]
    for i, first in enumerate(layers[shown[0]]):
        cells = [f"{layers[t][i]['operand_db']:.1f}, {layers[t][i]['result_db']:.1f}" for t in shown]
        lines.append(f"| {i + 1} | {first['zeros']:.0f} | {pairs[i]['whole']:.0f} | {' | '.join(cells)} |")
    return [*lines, ""]


_LAYERS = (
    "SQNR (dB) of the trimmed operand against its 8-bit codes, and of the layer's result on float inputs against the",
    "float layer; 8-bit weights, methods `none`. Trimmed layers in order of execution. Zeros: of the operand;",
    "whole in pairs: codes that `sparq4_5opt_v` leaves as they are.",
)
