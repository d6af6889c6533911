"""Single layers: convolutions of six shapes, matrix products by M and weight bits, formats at one large product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.cpu import ours
from benchmarks.cpu.layer_peers import check, layer_peers
from benchmarks.cpu.layers import Layer
from benchmarks.cpu.report import Report
from benchmarks.cpu.roofs import reader
from benchmarks.cpu.rounds import Output, Runner, Times, measure, pair
from subbyte.graph.verify import verify
from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference


@dataclass(frozen=True)
class Variant:
    """Formats of a layer, how the engine keeps its weights, and by which family of kernels it multiplies."""

    weights: str
    activations: str = "uint8"
    keep: str = "auto"
    family: str = "auto"


CONVOLUTIONS = (
    Layer(name="3x3 64-64 56x56", rows=56, columns=56, inputs=64, outputs=64, kernel=3),
    Layer(name="3x3 256-256 14x14", rows=14, columns=14, inputs=256, outputs=256, kernel=3),
    Layer(name="1x1 256-256 14x14", rows=14, columns=14, inputs=256, outputs=256),
    Layer(name="3x3 16-16 32x32", rows=32, columns=32, inputs=16, outputs=16, kernel=3),
    Layer(name="1x1 64-64 25x25", rows=25, columns=25, inputs=64, outputs=64),
    Layer(name="dw 3x3 144 28x28", rows=28, columns=28, inputs=144, outputs=144, kernel=3, groups=144),
)
GRID = (
    *((m, k, k) for k in (512, 1024, 4096) for m in (1, 4, 16, 64, 256)),
    *((m, 4096, 11008) for m in (1, 64)),
    (1, 11008, 4096),
    *((64, k, n) for k, n in ((384, 384), (384, 1536), (1536, 384))),  # MiniLM's linear layers, 64 tokens
)
QUICK_GRID = ((1, 1024, 1024), (4, 1024, 1024), (64, 1024, 1024), (1, 4096, 4096))
INT8 = Variant("int8")
WEIGHTS = {"w8": INT8, "w4": Variant("int4", keep="packed"), "w2": Variant("int2", keep="packed")}
GEMM_WEIGHTS = WEIGHTS | {"w1": Variant("binary", keep="packed")}
AVX2_WEIGHTS = {"w8": INT8, "w4": Variant("int4"), "w4a4": Variant("int4", "uint4")}
BITS = {"w8": 8, "w4": 4, "w2": 2, "w1": 1}
FORMATS = {
    "w8a8": INT8,
    "w8a7": Variant("int8", "uint7"),
    "w4a8": Variant("int4"),
    "w4a4": Variant("int4", "uint4"),
    "x31_w17": Variant("levels17", "levels31"),
    "wternary_a8": Variant("ternary"),
    "w2a8": Variant("int2"),
    "w2a2": Variant("int2", "uint2"),
    "w1a1": Variant("binary", "uint1"),
}
PACKED_FORMATS = {
    f"{name} packed": replace(variant, keep="packed")
    for name, variant in {
        **FORMATS,
        "w5a8": Variant("int5"),
        "w3a8": Variant("int3"),
        "w1a8": Variant("binary"),
    }.items()
    if name in {"w5a8", "w4a8", "x31_w17", "w3a8", "wternary_a8", "w2a8", "w1a8"}
}
GEMV_TARGETS = (("litert int4", "LiteRT int4", "w4", 1.0), ("openvino int8", "OpenVINO int8", "w2", 2.5))
FAMILY_FORMATS = {
    f"{name} {family}": Variant(*formats, family=family)
    for name, formats in {
        "w2a2": ("int2", "uint2"),
        "w2a4": ("int2", "uint4"),
        "w1a1": ("binary", "uint1"),
        "w1a2": ("binary", "uint2"),
        "w1a4": ("binary", "uint4"),
    }.items()
    for family in ("dot", "lookup", "bit_planes")
}
AVX2_FORMAT_TARGETS = {"x31_w17": 1.6, "w4a8": 1.4, "w2a2": 2.5, "w1a1": 5.0}
AVX2_FORMAT_ROOFS = {
    "x31_w17": ("maddubs_addw_256", 1),
    "w4a8": ("maddubs_addw_256", 1),
    "w2a2": ("shuffle_256", 2),
    "w1a1": ("shuffle_256", 4),
}
"""What each is computed by, and how many products an entry of a table stands for."""
EXACT_INT8_SHARE = 0.6
"""Of its own roof: below it, ratios against our exact int8 on AVX2 would flatter the formats."""

ONLY_ROW = 1
MOST_READ_ROWS = 4
LARGE = 4096 * 4096
"""Weights of so many bytes lie beyond the caches of one core: reading them is a bound."""


def our_layer(layer: Layer, name: str, keep: str = "auto", family: str = "auto") -> tuple[Runner, Output]:
    """A layer on the engine and its result; ``keep`` and ``family`` are the engine's arguments.

    Raises:
        WrongAnswerError: the integers are not the reference's.
    """
    graph = layer.graph()
    verify(graph, "integer")
    engine = Engine(graph, weights=keep, family=family)
    codes = {"x": layer.x}
    got = np.asarray(engine.run(codes)["y"])
    ours.check_bits(f"{layer.name} {name}", got, run_reference(graph, codes)["y"])
    return Runner(name=name, kind="ours", call=lambda: engine.run(codes), output=lambda: engine.run(codes)["y"]), got


def _variant(layer: Layer, name: str, variant: Variant) -> Runner:
    other = replace(layer, weights=variant.weights, activations=variant.activations)
    return our_layer(other, name, variant.keep, variant.family)[0]


def _layer(report: Report, layer: Layer, variants: dict[str, Variant], *, int4: bool) -> list[Runner]:
    own, exact = our_layer(layer, "w8")
    runners = layer_peers(layer, only_openvino=report.settings.avx2, int4=int4)
    for runner in runners:
        worst = check(layer, runner, exact, saturates=report.settings.avx2 and runner.counts)
        if worst > 1:
            print(f"{layer.name}: {runner.name} differs by up to {worst:g} codes, its sums of two products saturate")
    return [*runners, own, *(_variant(layer, name, v) for name, v in variants.items() if name != "w8")]


def layers(report: Report) -> None:
    """The six convolutions, with 8-bit, 4-bit and 2-bit weights; on AVX2 with 4-bit activations too."""
    for layer in CONVOLUTIONS:
        if not report.settings.wanted(layer.name):
            continue
        runners = _layer(report, layer, AVX2_WEIGHTS if report.settings.avx2 else WEIGHTS, int4=False)
        times = measure(runners, report.settings.rounds(20))
        case = report.case(layer.name, layer.name, layer.macs, times)
        ratio = case["ratios"]["w8"]
        least = report.bound(case, "w8", Engine(layer.graph()))
        if report.settings.avx2:
            if layer.groups == 1:
                what, gain = f"AVX2, {layer.name}, w4a4 against our exact int8", pair(times, "w8", "w4a4")
                report.target(what, 1.6, gain, ceiling=case["rows"]["w8"]["min_us"] / _least_w4a4(report, case, layer))
        elif layer.groups > 1:
            for kind, target in (("int8", 5.0), ("fp32", 2.0)):
                what, value = f"{layer.name}, w8, against the best {kind} peer", ratio[kind]["median"]
                report.target(what, target, value, ceiling=report.ceiling(case, least, [kind]))
        else:
            what, value = f"{layer.name}, w8, against the best peer", ratio["peer"]["median"]
            report.target(what, 1.0, value, ceiling=report.ceiling(case, least))


def gemm(report: Report) -> None:
    """Matrix products over M and shape; where one row meets large weights also with cold caches."""
    for m, k, n in QUICK_GRID if report.settings.quick else GRID:
        layer = Layer(name=f"{m} x {k} x {n}", rows=m, inputs=k, outputs=n)
        if not report.settings.wanted(layer.name):
            continue
        runners = _layer(report, layer, GEMM_WEIGHTS, int4=True)
        if m <= MOST_READ_ROWS and k * n >= LARGE:
            runners.insert(0, reader(k * n))
        times = measure(runners, report.settings.rounds(12))
        report.case(layer.name, f"M={m}, K={k}, N={n}", layer.macs, times, cold=False)
        _gemm_targets(report, layer, times)
        if m == ONLY_ROW and k * n >= LARGE:
            times = measure(runners, report.settings.rounds(12), cold=True)
            report.case(f"{layer.name} cold", f"M={m}, K={k}, N={n}, weights from DRAM", layer.macs, times, cold=True)
            _cold_targets(report, layer, times)


def _gemm_targets(report: Report, layer: Layer, times: dict[str, Times]) -> None:
    case = report.cases[-1]
    if layer.rows >= 64 and min(layer.inputs, layer.outputs) >= 512:
        for name in GEMM_WEIGHTS:
            share = case["rows"][name]["of_peak"]
            report.target(f"GEMM {layer.name}, {name}, share of the peak", 0.8, share, "P", ceiling=1.0)
    if (layer.rows, layer.inputs) == (4, 4096):
        for name, target in (("w4", 1.6), ("w2", 2.0)):
            what, value = f"GEMM {layer.name}, {name}, against the best int8 peer", _over_int8(case, name)
            report.target(what, target, value, ceiling=_read_ceiling(report, case, name, peers_only=True))
    if (layer.rows, layer.inputs, layer.outputs) == (1, 4096, 4096):
        for peer, shown, name, target in GEMV_TARGETS:
            what, value = f"GEMV {layer.name}, {name}, against {shown}", pair(times, peer, name)
            report.target(what, target, value, ceiling=_over_least(report, case, name, [peer]))


def _over_int8(case: dict[str, object], name: str) -> float:
    ratio = case["ratios"]
    assert isinstance(ratio, dict)
    return float(ratio[name]["int8"]["median"])


def _read_ceiling(report: Report, case: dict[str, Any], name: str, *, peers_only: bool) -> float:
    """The best int8 over the least time for weights of so few bits."""
    int8 = [n for n, row in case["rows"].items() if row["counts"] and row["kind"] == "int8"]
    return _over_least(report, case, name, int8 + ([] if peers_only else ["w8"]))


def _over_least(report: Report, case: dict[str, Any], name: str, others: Sequence[str]) -> float:
    """Time of the fastest of others / the time to read weights of so few bits or to multiply, whichever is longer."""
    rows = case["rows"]
    reading = rows["plain read"]["min_us"] * BITS[name] / 8
    return float(min(rows[n]["min_us"] for n in others) / max(reading, case["macs"] / report.peak / 1e3))


def _least_w4a4(report: Report, case: dict[str, Any], layer: Layer) -> float:
    """Microseconds of a layer of few bits on AVX2, whose products are added in 16 bits."""
    few = replace(layer, weights="int4", activations="uint4")
    return report.bound(case, "w4a4", Engine(few.graph()), "maddubs_addw_256")


def _cold_targets(report: Report, layer: Layer, times: dict[str, Times]) -> None:
    """One row, weights from DRAM: bytes read per second, and fewer bits against int8."""
    case = report.cases[-1]
    share = pair(times, "plain read", "w8")
    report.target(f"GEMV {layer.name} cold, w8, share of DRAM bandwidth", 0.95, share, "of read", ceiling=1.0)
    ceiling = _read_ceiling(report, case, "w8", peers_only=True)
    report.target(
        f"GEMV {layer.name} cold, w8, against the best int8 peer", 1.0, _over_int8(case, "w8"), ceiling=ceiling
    )
    for name, target in (("w4", 1.8), ("w2", 3.3), ("w1", 5.0)):
        value = min(_over_int8(case, name), pair(times, "w8", name))
        ceiling = _read_ceiling(report, case, name, peers_only=False)
        report.target(f"GEMV {layer.name} cold, {name}, against the better int8", target, value, ceiling=ceiling)
    ceiling = _over_least(report, case, "w4", ["litert int4"])
    value = pair(times, "litert int4", "w4")
    report.target(f"GEMV {layer.name} cold, w4, against LiteRT int4", 1.0, value, ceiling=ceiling)


def formats(report: Report) -> None:
    """One large product (M=240, K=1920, N=512) in every family of formats, against our own exact int8."""
    layer = Layer(name="240 x 1920 x 512", rows=240, inputs=1920, outputs=512)
    variants = FORMATS | FAMILY_FORMATS | ({} if report.settings.avx2 else PACKED_FORMATS)
    runners = [_variant(layer, name, variant) for name, variant in variants.items()]
    times = measure(runners, report.settings.rounds(40))
    over_exact = {name: pair(times, "w8a8", name) for name in variants}
    over_planned = {name: pair(times, "w8a7", name) for name in variants}
    case = report.case(
        layer.name,
        "M=240, K=1920, N=512",
        layer.macs,
        times,
        over_w8a8=over_exact,
        over_w8a7=over_planned,
    )
    rows = case["rows"]
    if report.settings.avx2:
        _avx2_format_targets(report, case, over_exact)
        return
    counted = {"ceiling": report.before["popcount_512"] / report.peak} if "popcount_512" in report.before else {}
    report.target("1x1 bit GEMM, share of the peak", 1.7, rows["w1a1"]["of_peak"], "P", **counted)
    for name in PACKED_FORMATS:
        report.target(f"GEMM {layer.name}, {name}, share of the peak", 0.8, rows[name]["of_peak"], "P", ceiling=1.0)


def _avx2_format_targets(report: Report, case: dict[str, Any], over_exact: dict[str, float]) -> None:
    roof = case["rows"]["w8a8"]["gmacs"] / report.before["maddubs_maddwd_256"]
    report.target("AVX2, our exact int8 of its maddubs+maddwd roof", EXACT_INT8_SHARE, roof, "of roof", ceiling=1.0)
    invalid = "" if roof >= EXACT_INT8_SHARE else "our exact int8 is too slow to compare with"
    for name, target in AVX2_FORMAT_TARGETS.items():
        roof, products = AVX2_FORMAT_ROOFS[name]
        ceiling = report.before[roof] * products / case["rows"]["w8a8"]["gmacs"]
        report.target(
            f"AVX2, {name} against our exact int8", target, over_exact[name], invalid=invalid, ceiling=ceiling
        )
