"""Microseconds per layer and candidate, measured on this CPU and remembered for it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from subbyte import _native
from subbyte.allocation.candidates import BASE, legal
from subbyte.allocation.problem import Candidate
from subbyte.allocation.workbench import Workbench
from subbyte.bench.latency import random_codes, spread, timed
from subbyte.errors import SubbyteError
from subbyte.files import atomic_write, read_file
from subbyte.graph.ir import Graph, Node
from subbyte.quantization.layers import quantize_layers
from subbyte.quantization.lowering import lower
from subbyte.quantization.recipe import LAYER_OPERATORS
from subbyte.runtime.engine import Engine
from subbyte.runtime.tuned import folder, layer_key, machine

ROUNDS = 7
"""Rivals take turns: times of different moments do not compare on a shared machine."""

ROUND_NANOSECONDS = 8_000_000
MOST_REPEATS = 1000


@dataclass(frozen=True)
class Latency:
    """Microseconds of one sample on the native engine, one thread, stored integers in and out (a ``CostModel``).

    Attributes:
        layers: by layer name and candidate.
        fixed: everything but the layers, the call included.
        name: of the cost.
    """

    layers: Mapping[tuple[str, Candidate], float]
    fixed: float
    name: str = "latency_us"

    def of(self, layer: Node, candidate: Candidate) -> float:
        """Microseconds of the layer and of re-codings that only it needs."""
        return self.layers[layer.name, candidate]


def measure_latency(
    bench: Workbench, candidates: Iterable[Candidate], report: Callable[[str, int, int], None]
) -> Latency:
    """Time every layer under every candidate, each candidate in a network that uses it wherever it is legal.

    Layers that this machine has timed before, with this engine and instruction set, are taken from its memory.
    """
    wanted = list(dict.fromkeys((BASE, *candidates)))
    graphs = {c: _network(bench, c) for c in wanted}
    memory = _Memory()
    new = [c for c, g in graphs.items() if c == BASE or not memory.knows(g)]
    measured = _rounds({c: graphs[c] for c in new}, report)
    for c, times in measured.items():
        memory.learn(graphs[c], times)
    memory.save()
    found: dict[tuple[str, Candidate], float] = {}
    for c, graph in graphs.items():
        times, owners = {**memory.times(graph), **measured.get(c, {})}, _owners(bench.graph, graph)
        for node in bench.layers:
            used = c if c in legal([c], node) else BASE
            found.setdefault((node.name, used), sum(t for n, t in times.items() if owners[n] == node.name))
    layers = sum(found[node.name, BASE] for node in bench.layers)
    return Latency(layers=found, fixed=max(measure_network(graphs[BASE]) - layers, 0.0))


def measure_network(graph: Graph) -> float:
    """Microseconds of the fastest call with one sample of stored integers, one thread."""
    engine, codes = Engine(graph), random_codes(graph, 0)
    return spread(timed(lambda: engine.run(codes), None)).least


def _rounds(
    graphs: Mapping[Candidate, Graph], report: Callable[[str, int, int], None]
) -> dict[Candidate, dict[str, float]]:
    """By candidate and node: microseconds of the fastest run in any round."""
    engines = {c: (Engine(g), random_codes(g, 0)) for c, g in graphs.items()}
    best: dict[Candidate, dict[str, float]] = {c: {} for c in graphs}
    for k in range(ROUNDS):
        for c, (engine, codes) in engines.items():
            whole = max(sum(best[c].values()) * 1000, 1.0)
            repeats = 3 if not best[c] else int(min(max(ROUND_NANOSECONDS // whole, 3), MOST_REPEATS))
            for row in engine.profile(codes, repeats)[1:-1]:
                best[c][row.name] = min(best[c].get(row.name, float("inf")), row.nanoseconds / 1000)
        report("timing layers", k + 1, ROUNDS)
    return best


def _network(bench: Workbench, candidate: Candidate) -> Graph:
    """The integer network with one candidate everywhere; nearest weights, because time is all that is asked."""
    choice = {n.name: candidate for n in bench.layers if candidate in legal([candidate], n)}
    scheme = bench.scheme(choice)
    few = {n: x[:2] for n, x in bench.samples.fit.items()}
    return lower(scheme, quantize_layers(scheme, few, (), lambda stage, done, total: None))


def _owners(floats: Graph, integers: Graph) -> dict[str, str]:
    """The layer on whose account a node of the integer graph runs; empty for those of the rest of the network."""
    known = {n.name for n in floats}
    layers = {n.name for n in floats if n.op.name in LAYER_OPERATORS}
    owners: dict[str, str] = {}
    for node in reversed(integers.nodes):
        if node.name in known:
            owners[node.name] = node.name if node.name in layers else ""
        else:  # a re-coding before its readers
            readers = {owners.get(r.name, "") for r in integers.consumers(node.output)}
            owners[node.name] = readers.pop() if len(readers) == 1 else ""
    return owners


class _Memory:
    """Times of operators by what they do; holds for one CPU, engine and instruction set."""

    def __init__(self) -> None:
        isa = os.environ.get("SUBBYTE_ISA") or _native.available_isas()[0]
        self.about = {**machine(), "isa": isa, "tuning": os.environ.get("SUBBYTE_TUNE", "")}
        name = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()[:12]
        self.path: Path = folder() / f"times-{name}.json"
        self.known: dict[str, float] = {}
        try:
            content = json.loads(read_file(self.path))
            if content["machine"] == self.about:
                self.known = {str(k): float(v) for k, v in content["microseconds"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.known = {}  # missing, or not ours: it is written anew

    def knows(self, graph: Graph) -> bool:
        """Whether all operators of a graph were timed before."""
        return all(layer_key(graph, n) in self.known for n in graph)

    def times(self, graph: Graph) -> dict[str, float]:
        """Microseconds by node, of those that are known."""
        return {n.name: self.known[k] for n in graph if (k := layer_key(graph, n)) in self.known}

    def learn(self, graph: Graph, times: Mapping[str, float]) -> None:
        """Take in new times; of several alike operators the mean, and of several measurements the fastest."""
        fresh: dict[str, list[float]] = {}
        for node in graph:
            if node.name in times:
                fresh.setdefault(layer_key(graph, node), []).append(times[node.name])
        for key, values in fresh.items():
            self.known[key] = min(self.known.get(key, float("inf")), sum(values) / len(values))

    def save(self) -> None:
        """Write the file; a user without a cache folder does without."""
        content = {"machine": self.about, "microseconds": self.known}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(self.path, json.dumps(content, sort_keys=True).encode())
        except (OSError, SubbyteError):
            return
