"""The page of ``benchmarks.groups``, from its stored rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WORDS = {
    "": "per_channel",
    "_g128": "per_group(128)",
    "_g64": "per_group(64)",
    "_g32": "per_group(32)",
    "_mx": "mx(32)",
    "_dg64": "dual_grained(64)",
}
"""Granularities by the suffix of a row's name."""

FINDINGS: tuple[str, ...] = (
    "- **Groups add about what their bits cost, or less, but for the ResNets.** At 4 bits groups of 32 add 1.3 dB on",
    "  resnet8 and 1.8 on resnet20 for 0.15 bits, elsewhere between -0.4 and 0.7 dB; on vww groups without zero points",
    "  now gain, now lose (-0.6 to 0.5 dB at all bits). A whole bit is worth about 5 dB here",
    "  ([formats](formats.md)), so 0.15 bits 0.75.",
    "  Channels of these networks have 9 to 784 weights: where they are short, one scale per channel is a group.",
    "- **Dual-grained is the best use of such bits**: 0.4 to 1.6 dB for 0.12 to 0.16 bits at 4, 3 and 2 bits, but for",
    "  vww at 2 bits, which loses 0.5; a zero point for 64 weights mostly does more than a scale for 32.",
    "- **MX loses to one real scale per channel at 4 bits**, by 0.0 to 1.6 dB (`int4` on resnet20 gains 0.2): a power",
    "  of two is a coarse scale. What it saves are bits where channels are short, 8 in place of 25 for the scale of a",
    "  channel: half a bit of each weight of dscnn_kws, a fifth on vww.",
    "- **That scales are integers costs next to nothing**: 0.27 dB of the weights at most (groups of 32 of fp4_e2m1,",
    "  whose table leaves 1 to 10), 0.02 or less at 3 and 2 bits. That blocks of MX lie at most 8 to 64 times apart",
    "  costs 0.01 dB. So nothing here asks for products beyond int8.",
    "- Differences of top-1 are mostly within their intervals.",
    "- **Groups are as fast as 8 bits, not faster.** resnet8, one image, one core of an AMD EPYC, best of 60 means of",
    "  ten: with VNNI w8a8, w4a8 and w4a8_g32 take 65 us each; under `SUBBYTE_ISA=avx2`, where fewer bits are faster,",
    "  164, 93 and 167 us (`subbyte bench` shows them for any file).",
)

_PREFACE = (
    "Made by `python -m benchmarks.groups`: 256 unlabelled calibration samples (250 where a set of 500 is split:",
    "calibrate on one half, score the other, swap), default methods and ranges, m31 arithmetic, native engine,",
    "operands `uint8`. The first and the last layer keep 8 bits, but for mnist_mlp, 96 % of whose weights are in its",
    "first layer: there all layers have the format. What the granularities are is in",
    "[recipes](../recipes.md#scales-of-groups).",
    "",
    "Bits: of a weight in the file, in layers that have the format: code, scales of channels and groups, zero points.",
    "SQNR: of the network's outputs against the float network's, over all scored samples; agreement: the same top-1",
    "as float32; drop: float32 minus quantized top-1 in points, with its 95 % paired interval. Agreement of 95 % has a",
    "95 % interval of ±1.9 points among 500 samples, ±0.6 among 5,000. Nothing was tuned on these samples; every row",
    "that was measured is shown.",
)


def page(results: Mapping[str, Any]) -> str:
    """Markdown."""
    lines = ["# Weights in groups", "", *_PREFACE, ""]
    if FINDINGS:
        lines += ["## What the figures say", "", *FINDINGS, ""]
    lines += [*_gains(results["nets"]), *_limits(results["nets"])]
    for name, net in results["nets"].items():
        lines += _network(name, net)
    return "\n".join(lines)


def parts(name: str) -> tuple[str, str]:
    """Format and suffix of a row's name."""
    suffix = max((s for s in WORDS if name.endswith(s)), key=len)
    return name.removesuffix(suffix), suffix


def _gains(nets: Mapping[str, Any]) -> list[str]:
    """What groups add to one scale per channel, format by format."""
    names = dict.fromkeys(name for net in nets.values() for name in net["rows"] if parts(name)[1])
    lines = [
        "## What groups add",
        "",
        "Decibels of output SQNR above one scale per channel of the same format, and bits of a weight above it.",
        "",
        f"| format | granularity | {' | '.join(nets)} |",
        f"|---|---|{'--:|' * len(nets)}",
    ]
    for name in names:
        format_, suffix = parts(name)
        cells = [_gain(net["rows"].get(name), net["rows"].get(format_)) for net in nets.values()]
        lines.append(f"| {format_} | {WORDS[suffix]} | {' | '.join(cells)} |")
    return [*lines, ""]


def _gain(row: Mapping[str, Any] | None, plain: Mapping[str, Any] | None) -> str:
    if row is None or plain is None:
        return ""
    return f"{row['sqnr_db'] - plain['sqnr_db']:+.1f} dB, {row['bits'] - plain['bits']:+.2f} bits"


def _limits(nets: Mapping[str, Any]) -> list[str]:
    """What integers within int8 lose beside real scales."""
    lines = [
        "## What integer scales cost",
        "",
        "SQNR of the trained weights in the layers that have the format, in dB: with integer scales beside the",
        "channel's, as they run, and if every group had a scale of its own (of MX: any power of two); and the share of",
        "groups whose scale that moves by more than a tenth.",
        "",
        "| network | format | granularity | integers | own scales | moved % |",
        "|---|---|---|--:|--:|--:|",
    ]
    for name, net in nets.items():
        for row_name, found in net.get("limits", {}).items():
            format_, suffix = parts(row_name)
            numbers = f"{found['held_db']:.2f} | {found['free_db']:.2f} | {found['moved']:.0f}"
            lines.append(f"| {name} | {format_} | {WORDS[suffix]} | {numbers} |")
    return [*lines, ""]


def _network(name: str, net: Mapping[str, Any]) -> list[str]:
    head = net["float32"]
    top = f"float32 top-1 {head['top1']:.2f} %" if "top1" in head else "no labels here"
    lines = [
        f"## {name}",
        "",
        f"{head['samples']:,} scored samples, {top}.",
        "",
        "| format | granularity | bits | SQNR dB | agreement % | drop (points) | file bytes |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row_name, row in net["rows"].items():
        format_, suffix = parts(row_name)
        drop = f"{row['drop']:+.2f} ± {row['interval']:.2f}" if "drop" in row else "-"
        lines.append(
            f"| {format_} | {WORDS[suffix]} | {row['bits']:.2f} | {row['sqnr_db']:.1f} | {row['agreement']:.1f} "
            f"| {drop} | {row['bytes']:,} |"
        )
    return [*lines, ""]
