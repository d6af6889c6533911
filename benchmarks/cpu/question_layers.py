"""Single layers: convolutions of six shapes, matrix products by M and weight bits, formats at one large product."""

from __future__ import annotations

from dataclasses import replace

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
WEIGHTS = {"w8": "int8", "w4": "int4", "w2": "int2", "w1": "binary"}
FORMATS = {
    "w8a8": ("int8", "uint8"),
    "w8a7": ("int8", "uint7"),
    "w4a8": ("int4", "uint8"),
    "w4a4": ("int4", "uint4"),
    "x31_w17": ("levels17", "levels31"),
    "wternary_a8": ("ternary", "uint8"),
    "w2a8": ("int2", "uint8"),
    "w2a2": ("int2", "uint2"),
    "w1a1": ("binary", "uint1"),
}
AVX2_FORMAT_TARGETS = {"x31_w17": 1.6, "w4a8": 1.4, "w2a2": 2.5, "w1a1": 5.0}
EXACT_INT8_SHARE = 0.6
"""Of its own roof: below it, ratios against our exact int8 on AVX2 would flatter the formats."""

ONLY_ROW = 1


def our_layer(layer: Layer, name: str) -> tuple[Runner, Output]:
    """A layer on the engine and its result.

    Raises:
        WrongAnswerError: the integers are not the reference's.
    """
    graph = layer.graph()
    verify(graph, "integer")
    engine = Engine(graph)
    codes = {"x": layer.x}
    got = np.asarray(engine.run(codes)["y"])
    ours.check_bits(f"{layer.name} {name}", got, run_reference(graph, codes)["y"])
    return Runner(name=name, kind="ours", call=lambda: engine.run(codes), output=lambda: engine.run(codes)["y"]), got


def _layer(report: Report, layer: Layer, weights: dict[str, str], *, int4: bool) -> list[Runner]:
    own, exact = our_layer(layer, "w8")
    runners = layer_peers(layer, only_openvino=report.settings.avx2, int4=int4)
    for runner in runners:
        check(layer, runner, exact)
    low = [our_layer(replace(layer, weights=weights[name]), name)[0] for name in weights if name != "w8"]
    return [*runners, own, *low]


def layers(report: Report) -> None:
    """The six convolutions, with 8-bit, 4-bit and 2-bit weights."""
    for layer in CONVOLUTIONS:
        if not report.settings.wanted(layer.name):
            continue
        runners = _layer(report, layer, {n: WEIGHTS[n] for n in ("w8", "w4", "w2")}, int4=False)
        times = measure(runners, report.settings.rounds(20))
        case = report.case(layer.name, layer.name, layer.macs, times)
        ratio = case["ratios"]["w8"]
        if report.settings.avx2:
            continue
        if layer.groups > 1:
            report.target(f"{layer.name}, w8, against the best int8 peer", 5.0, ratio["int8"]["median"])
            report.target(f"{layer.name}, w8, against the best fp32 peer", 2.0, ratio["fp32"]["median"])
        else:
            what, value = f"{layer.name}, w8, against the best peer", ratio["peer"]["median"]
            report.target(what, 1.0, value, ceiling=report.ceiling(case))


def gemm(report: Report) -> None:
    """Matrix products over M and shape; where one row meets large weights also with cold caches."""
    for m, k, n in QUICK_GRID if report.settings.quick else GRID:
        layer = Layer(name=f"{m} x {k} x {n}", rows=m, inputs=k, outputs=n)
        if not report.settings.wanted(layer.name):
            continue
        runners = _layer(report, layer, WEIGHTS, int4=True)
        times = measure(runners, report.settings.rounds(12))
        report.case(layer.name, f"M={m}, K={k}, N={n}", layer.macs, times, cold=False)
        _gemm_targets(report, layer, times)
        if m == ONLY_ROW and k * n >= 4096 * 4096:
            times = measure([reader(k * n), *runners], report.settings.rounds(12), cold=True)
            report.case(f"{layer.name} cold", f"M={m}, K={k}, N={n}, weights from DRAM", layer.macs, times, cold=True)
            _cold_targets(report, layer, times)


def _gemm_targets(report: Report, layer: Layer, times: dict[str, Times]) -> None:
    case = report.cases[-1]
    if layer.rows >= 64 and min(layer.inputs, layer.outputs) >= 512:
        for name in WEIGHTS:
            report.target(f"GEMM {layer.name}, {name}, share of the peak", 0.8, case["rows"][name]["of_peak"], "P")
    if (layer.rows, layer.inputs) == (4, 4096):
        for name, target in (("w4", 1.6), ("w2", 2.0)):
            report.target(f"GEMM {layer.name}, {name}, against the best int8 peer", target, _over_int8(case, name))
    if (layer.rows, layer.inputs, layer.outputs) == (1, 4096, 4096):
        report.target(f"GEMV {layer.name}, w4, against LiteRT int4", 1.0, pair(times, "litert int4", "w4"))
        report.target(f"GEMV {layer.name}, w2, against OpenVINO int8", 2.5, pair(times, "openvino int8", "w2"))


def _over_int8(case: dict[str, object], name: str) -> float:
    ratio = case["ratios"]
    assert isinstance(ratio, dict)
    return float(ratio[name]["int8"]["median"])


def _cold_targets(report: Report, layer: Layer, times: dict[str, Times]) -> None:
    """One row, weights from DRAM: bytes read per second, and fewer bits against int8."""
    case = report.cases[-1]
    share = pair(times, "plain read", "w8")
    report.target(f"GEMV {layer.name} cold, w8, share of DRAM bandwidth", 0.95, share, "of read")
    report.target(f"GEMV {layer.name} cold, w8, against the best int8 peer", 1.0, _over_int8(case, "w8"))
    for name, target in (("w4", 1.8), ("w2", 3.3), ("w1", 5.0)):
        value = min(_over_int8(case, name), pair(times, "w8", name))
        report.target(f"GEMV {layer.name} cold, {name}, against the better int8", target, value)


def formats(report: Report) -> None:
    """One large product (M=240, K=1920, N=512) in every family of formats, against our own exact int8."""
    runners = []
    for name, (weights, activations) in FORMATS.items():
        layer = Layer(name=name, rows=240, inputs=1920, outputs=512, weights=weights, activations=activations)
        runners.append(our_layer(layer, name)[0])
    times = measure(runners, report.settings.rounds(40))
    over_exact = {name: pair(times, "w8a8", name) for name in FORMATS}
    over_planned = {name: pair(times, "w8a7", name) for name in FORMATS}
    case = report.case(
        "240 x 1920 x 512",
        "M=240, K=1920, N=512",
        layer.macs,
        times,
        over_w8a8=over_exact,
        over_w8a7=over_planned,
    )
    rows = case["rows"]
    if report.settings.avx2:
        roof = rows["w8a8"]["gmacs"] / report.before["maddubs_maddwd_256"]
        report.target("AVX2, our exact int8 of its maddubs+maddwd roof", EXACT_INT8_SHARE, roof, "of roof")
        invalid = "" if roof >= EXACT_INT8_SHARE else "our exact int8 is too slow to compare with"
        for name, target in AVX2_FORMAT_TARGETS.items():
            report.target(f"AVX2, {name} against our exact int8", target, over_exact[name], invalid=invalid)
    else:
        report.target("1x1 bit GEMM, share of the peak", 1.7, rows["w1a1"]["of_peak"], "P")
