"""What is not arithmetic: the floor of a call, two threads, loading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

import subbyte as sb
from benchmarks.cpu import ours, peers, quantized_peers
from benchmarks.cpu.layer_peers import check, layer_peers
from benchmarks.cpu.layers import Layer
from benchmarks.cpu.networks import SUBJECTS, Subject
from benchmarks.cpu.question_layers import our_layer
from benchmarks.cpu.question_nets import network_peers
from benchmarks.cpu.report import Report
from benchmarks.cpu.rounds import Runner, measure, pair
from benchmarks.cpu.tflite_graph import channels_last_input, litert_network
from subbyte.arithmetic.boundary import dequantize
from subbyte.runtime.engine import Engine

TINY = Layer(name="1 x 16 x 16", rows=1, inputs=16, outputs=16)
THREADED = ("resnet18", "mobilenet_v2")


def floor(report: Report) -> None:
    """One tiny layer: what a call costs that computes nearly nothing."""
    own, exact = our_layer(TINY, "w8a8")
    runners = layer_peers(TINY)
    for runner in runners:
        check(TINY, runner, exact)
    model = sb.QuantizedModel(TINY.graph(), {})
    whole = Runner(name="w8a8 float", kind="ours", call=lambda: model(TINY.real_x), output=lambda: model(TINY.real_x))
    ours.check_bits("w8a8 float", whole.output(), dequantize(exact, TINY.output_scale, TINY.zero_point))
    times = measure([*runners, own, whole], report.settings.rounds(40))
    case = report.case(TINY.name, "one linear layer of 16 x 16", 0, times)
    slowest = max(case["rows"][name]["min_us"] for name in ("w8a8", "w8a8 float"))
    report.target("call floor, one tiny layer, codes or floats", 3.0, slowest, "us", at_most=True)


def threads(report: Report) -> None:
    """Two threads against one before any peer is loaded, whose threads spin for a while behind a call; then peers."""
    for alone in (True, False):
        for name in THREADED:
            if report.settings.wanted(name):
                _threads(report, SUBJECTS[name], alone=alone)


def _threads(report: Report, subject: Subject, *, alone: bool) -> None:
    runners = [replace(ours.network_runner(subject, "w8a8", n), name=f"w8a8 x{n}") for n in (1, 2)]
    if not alone:
        runners += [replace(r, name=f"{r.name} x2") for r in network_peers(subject, 2) if r.kind == "int8"]
    times = measure(runners, report.settings.rounds(20))
    report.case(subject.name + (" alone" if alone else ""), subject.title, 0, times)
    if alone:
        gain = pair(times, "w8a8 x1", "w8a8 x2")
        report.target(f"{subject.title}, two threads over one", 1.75, gain, ceiling=2.0)


def load(report: Report) -> None:
    """From a file to an engine that may run: MobileNetV2."""
    subject = SUBJECTS["mobilenet_v2"]
    path, calibration = subject.path, subject.inputs()
    x = np.ascontiguousarray(calibration[:1])
    last = channels_last_input(path, x)
    model = litert_network(path, calibration, 8)
    ort, openvino = quantized_peers.ort_int8(path, calibration), quantized_peers.openvino_int8(path, calibration)
    runners = [
        _loader("ort int8", "int8", lambda: peers.ort("", "", ort, x)),
        _loader("openvino int8", "int8", lambda: peers.openvino_runner("", "", openvino, x)),
        _loader("litert int8", "int8", lambda: peers.litert("", "", model, last)),
    ]
    for recipe in ("w8a8", "w4a8"):
        file = ours.quantized(subject, recipe)
        runners.append(_loader(recipe, "ours", partial(_engine, file)))
    times = measure(runners, report.settings.rounds(8))
    case = report.case(subject.name, f"{subject.title}: load and prepare", 0, times)
    spent = case["rows"]["w8a8"]["min_us"] / 1e3
    report.target("load and weight preparation of MobileNetV2", 150, spent, "ms", at_most=True)


def _engine(file: Path) -> Engine:
    return sb.load(file).engine


def _loader(name: str, kind: str, call: Callable[[], object]) -> Runner:
    return Runner(name=name, kind=kind, call=call, output=lambda: np.zeros(0))
