"""Losses without running the integer network: from the curvature of the loss, or from the weights alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from subbyte.allocation.candidates import BASE
from subbyte.allocation.curvature import fisher_diagonals, hessian_traces
from subbyte.allocation.problem import Candidate
from subbyte.allocation.workbench import Report, Workbench
from subbyte.errors import AllocationError
from subbyte.formats import get_format
from subbyte.formats.granularity import DualGrained, PerChannel, get_granularity
from subbyte.formats.quantize import quantize_weight

PROBES = 16
MOST_SAMPLES = 128


def estimate(
    bench: Workbench, method: str, candidates: Mapping[str, Iterable[Candidate]], seed: int, report: Report
) -> dict[tuple[str, Candidate], float]:
    """Expected loss by layer and candidate, from the error of nearest weights.

    ``hessian`` is half the mean curvature times the squared error (HAWQ-V2, Dong et al. 2020, section 3.1); ``fisher``
    weights each error by its own curvature; ``weights`` is the squared error relative to the weights.

    Raises:
        AllocationError: operands of other formats than the base's are to be chosen: only a measurement judges them.
    """
    feeds = {n: x[:MOST_SAMPLES] for n, x in bench.samples.fit.items()}
    unit: dict[str, float | np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {}
    if method == "hessian":
        traces = hessian_traces(bench.graph, feeds, probes=PROBES, seed=seed, progress=report)
        unit = {n: t.per_weight / 2 for n, t in traces.items()}
    elif method == "fisher":
        unit = {n: d / 2 for n, d in fisher_diagonals(bench.graph, feeds, probes=PROBES, seed=seed).items()}
    found = {}
    for node in bench.layers:
        weight = np.asarray(bench.graph.constants[node.inputs[1]], np.float32)
        power = float(np.square(weight.astype(np.float64)).sum())
        scale = unit.get(node.name, 0.0) if unit else 1.0 / max(power, 1e-300)
        for candidate in candidates[node.name]:
            if candidate.activations != BASE.activations:
                raise AllocationError(
                    f"sensitivity {method!r} is asked about operands in {candidate.activations}",
                    "it knows weights alone",
                    "use sensitivity='divergence'",
                )
            found[node.name, candidate] = float((scale * _squared_error(weight, candidate)).sum())
    return found


def _squared_error(
    weight: np.ndarray[tuple[int, ...], np.dtype[np.float32]], candidate: Candidate
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    granularity = get_granularity(candidate.granularity or PerChannel.name)
    symmetric = not isinstance(granularity, DualGrained)
    tensor = quantize_weight(weight, get_format(candidate.weights), granularity, symmetric=symmetric, method="mse")
    return np.asarray(np.square(tensor.dequantize().astype(np.float64) - weight))
