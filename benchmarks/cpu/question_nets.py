"""Whole networks: one thread, call from Python included, against every peer in float32 and int8."""

from __future__ import annotations

from typing import Any

import numpy as np

import subbyte as sb
from benchmarks.cpu import ours, peers, quantized_peers
from benchmarks.cpu.networks import SUBJECTS, Subject
from benchmarks.cpu.report import Report, Settings
from benchmarks.cpu.rounds import Output, Runner, measure, pair
from benchmarks.cpu.tflite_graph import channels_last_input, litert_network

RECIPES = ("w8a8", "w4a8")  # and w4a8 with packed weights
AVX2_RECIPES = ("w8a8", "w8a7", "w4a8", "w4a4", "x31_w17")
AVX2_TARGETS = {
    "ds_cnn": {"w8a8": 2.4, "w8a7": 2.4, "x31_w17": 2.4},
    "resnet8": {"w8a7": 1.2, "w8a8": 0.9, "x31_w17": 1.4},
}
DOTS = {"w8a8": "", "w8a7": "", "x31_w17": "maddubs_addw_256"}
"""The roof of each recipe's products, where not that of exact int8: (31, 17) levels are summed in 16 bits."""

HALF = 0.505
"""Weight bytes of 4 bits over those of 8, padding of odd shapes included."""

PLAUSIBLE = 0.9
"""Smallest correlation of an int8 output with the float network's."""


def network_peers(subject: Subject, threads: int = 1, *, only_openvino: bool = False) -> list[Runner]:
    """Every peer on a network, in float32 and int8; where ``only_openvino``, others are shown but not counted."""
    path, calibration = subject.path, subject.inputs()
    x = np.ascontiguousarray(calibration[:1])
    last = channels_last_input(path, x)
    others = not only_openvino
    int8 = quantized_peers.ort_int8(path, calibration), quantized_peers.openvino_int8(path, calibration)
    return [
        peers.ort("ort fp32", "fp32", path, x, threads, counts=others),
        peers.ort("ort int8", "int8", int8[0], x, threads, counts=others),
        peers.openvino_runner("openvino fp32", "fp32", path, x, threads),
        peers.openvino_runner("openvino int8", "int8", int8[1], x, threads),
        peers.litert("litert fp32", "fp32", litert_network(path, calibration, 32), last, threads, counts=others),
        peers.litert("litert int8", "int8", litert_network(path, calibration, 8), last, threads, counts=others),
    ]


def answers(runners: list[Runner], exact: Output, *, saturates: bool = False) -> dict[str, dict[str, Any]]:
    """Each runner's agreement with the float network.

    Args:
        runners: that have been called once.
        exact: output of the float network.
        saturates: int8 peers may clip sums of two products to 16 bits, as on CPUs without VNNI: wrong, but fast.

    Raises:
        WrongAnswerError: an int8 or float32 output is not finite or resembles the float network's too little.
    """
    found = {}
    for runner in runners:
        row = ours.agreement(runner.output(), exact)
        low_bit = runner.kind == "ours" and not runner.name.startswith("w8")
        if row["correlation"] < PLAUSIBLE and saturates and runner.kind == "int8":
            print(f"{runner.name}: correlation {row['correlation']}, its sums of two products saturate")
        elif row["correlation"] < PLAUSIBLE and not low_bit:
            raise ours.WrongAnswerError(f"{runner.name}: correlation {row['correlation']} with the float network")
        found[runner.name] = row
    return found


def macs(subject: Subject) -> int:
    """Multiply-accumulates of one sample."""
    from subbyte.summary import node_facts

    return sum(fact.macs for fact in node_facts(sb.load(ours.quantized(subject, "w8a8")).graph))


def nets(report: Report) -> None:
    """All networks; w8a8 and w4a8, on AVX2 also w8a7, w4a4 and (31, 17)."""
    settings = report.settings
    recipes = AVX2_RECIPES if settings.avx2 else RECIPES
    for subject in SUBJECTS.values():
        if not settings.wanted(subject.name):
            continue
        runners = network_peers(subject, only_openvino=settings.avx2)
        exact = runners[0].output()
        runners += [ours.network_runner(subject, recipe) for recipe in recipes]
        runners.append(ours.float_runner(subject, "w8a8"))
        if not settings.avx2:
            runners.append(ours.network_runner(subject, "w4a8", weights="packed"))
        seen = answers(runners, exact, saturates=settings.avx2)
        times = measure(runners, settings.rounds(20))
        sizes = {recipe: ours.quantized(subject, recipe).stat().st_size for recipe in recipes}
        case = report.case(
            subject.name, subject.title, macs(subject), times, random=subject.random, answers=seen, bytes=sizes
        )
        case["profile"] = ours.breakdown(subject, "w8a8")
        _targets(report, settings, subject, case)
        if not settings.avx2:
            what = f"{subject.title}: w4a8 with weights kept packed / w8a8"
            report.target(f"{what}, time", 1.08, pair(times, "w4a8 packed", "w8a8"), at_most=True)
            packed = ours.network_engine(subject, "w4a8", weights="packed").weight_bytes
            share = packed / ours.network_engine(subject, "w8a8").weight_bytes
            report.target(f"{what}, bytes of weights in memory", HALF, share, at_most=True)


def _targets(report: Report, settings: Settings, subject: Subject, case: dict[str, Any]) -> None:
    ratio = case["ratios"]
    least = {recipe: _least(report, case, subject, recipe) for recipe in DOTS if recipe in ratio}
    if settings.avx2:
        for recipe, target in AVX2_TARGETS.get(subject.name, {}).items():
            what, value = f"AVX2, {subject.title}, {recipe}, against OpenVINO", ratio[recipe]["peer"]["median"]
            report.target(what, target, value, ceiling=report.ceiling(case, least[recipe]))
    elif subject.target:
        what, value = f"{subject.title}, w8a8, against the best peer", ratio["w8a8"]["peer"]["median"]
        report.target(what, subject.target, value, ceiling=report.ceiling(case, least["w8a8"]))


def _least(report: Report, case: dict[str, Any], subject: Subject, recipe: str) -> float:
    return report.bound(case, recipe, ours.network_engine(subject, recipe), DOTS[recipe])
