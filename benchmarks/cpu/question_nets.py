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

RECIPES = ("w8a8", "w4a8")
AVX2_RECIPES = ("w8a8", "w8a7", "w4a8", "w4a4", "x31_w17")
AVX2_TARGETS = {
    "ds_cnn": {"w8a8": 2.4},
    "resnet8": {"w8a7": 1.2, "w8a8": 0.9, "x31_w17": 1.4},
}
PACKED = 0.7
"""An engine that holds 4-bit weights as 4 bits takes less than this share of the memory of its 8-bit twin."""

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


def answers(runners: list[Runner], exact: Output) -> dict[str, dict[str, Any]]:
    """Each runner's agreement with the float network.

    Raises:
        WrongAnswerError: an int8 or float32 output is not finite or resembles the float network's too little.
    """
    found = {}
    for runner in runners:
        row = ours.agreement(runner.output(), exact)
        low_bit = runner.kind == "ours" and not runner.name.startswith("w8")
        if row["correlation"] < PLAUSIBLE and not low_bit:
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
    weights = SUBJECTS["resnet18"]  # so many of them that memory shows how they are kept
    held = {r: ours.engine_bytes(ours.quantized(weights, r)) for r in ("w8a8", "w4a8")}
    unpacked = "" if held["w4a8"] < PACKED * held["w8a8"] else "weights are unpacked in memory"
    for subject in SUBJECTS.values():
        if not settings.wanted(subject.name):
            continue
        runners = network_peers(subject, only_openvino=settings.avx2)
        exact = runners[0].output()
        for recipe in recipes:
            own = ours.network_runners(subject, recipe)
            runners += own if recipe == "w8a8" else own[:1]
        seen = answers(runners, exact)
        times = measure(runners, settings.rounds(20))
        sizes = {recipe: ours.quantized(subject, recipe).stat().st_size for recipe in recipes}
        case = report.case(
            subject.name, subject.title, macs(subject), times, random=subject.random, answers=seen, bytes=sizes
        )
        _targets(report, settings, subject, case)
        if not settings.avx2:
            slower = pair(times, "w4a8", "w8a8")
            what = f"{subject.title}: w4a8 time / w8a8 time, weights kept packed"
            report.target(what, 1.08, slower, at_most=True, invalid=unpacked)


def _targets(report: Report, settings: Settings, subject: Subject, case: dict[str, Any]) -> None:
    ratio = case["ratios"]
    if settings.avx2:
        for recipe, target in AVX2_TARGETS.get(subject.name, {}).items():
            report.target(f"AVX2, {subject.title}, {recipe}, against OpenVINO", target, ratio[recipe]["peer"]["median"])
    elif subject.target:
        what, value = f"{subject.title}, w8a8, against the best peer", ratio["w8a8"]["peer"]["median"]
        report.target(what, subject.target, value, ceiling=report.ceiling(case))
