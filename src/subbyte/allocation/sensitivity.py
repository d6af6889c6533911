"""What each candidate of each layer loses: measured on the integer network, or estimated from curvature or weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.allocation.candidates import BASE
from subbyte.allocation.problem import Candidate
from subbyte.allocation.workbench import Workbench
from subbyte.errors import AllocationError, unknown_name
from subbyte.graph.ir import Node
from subbyte.quantization.fake_quant import fake_quantize, fake_trim
from subbyte.quantization.layers import LayerWeights
from subbyte.quantization.parts import without_rectify
from subbyte.runtime.modelfile import node_bytes

METHODS = ("divergence", "hessian", "fisher", "weights")
"""Measured on the integer network; Hessian trace; Fisher diagonal; weight noise alone."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One candidate of one layer, everything else at 8 bits.

    Attributes:
        layer: its name.
        candidate: what was tried.
        loss: of the network on the judged samples (``Distance.loss``), minus that of the 8-bit network.
        agreement: of the network, in percent.
        sqnr_db: of the network's scores (cumulative).
        local_db: signal to noise of the layer's own result, with the float network before it.
        weight_db: signal to noise of the weights alone.
        error: sum of squared differences of the weights.
        nbytes: of the layer's codes, scales, zero points and biases in the file; 0 where it is not known.
    """

    layer: str
    candidate: Candidate
    loss: float
    agreement: float
    sqnr_db: float
    local_db: float
    weight_db: float
    error: float
    nbytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values, infinities as None."""
        values = asdict(self)
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Measured:
        """The inverse of ``to_json``."""
        numbers: dict[str, Any] = {k: math.inf if v is None else v for k, v in values.items() if k != "candidate"}
        return Measured(**numbers, candidate=Candidate(**values["candidate"]))


@dataclass(frozen=True)
class LayerTask:
    """Measure some candidates of one layer."""

    layer: str
    candidates: tuple[Candidate, ...]


def measure_layer(bench: Workbench, task: LayerTask) -> list[Measured]:
    """Exchange one layer of the 8-bit integer network for each candidate, and judge the network."""
    layer = next(n for n in bench.layers if n.name == task.layer)
    x = bench.inputs_of(layer)
    weight = np.asarray(bench.graph.constants[layer.inputs[1]], np.float32)
    rows = []
    for candidate in task.candidates:
        fitted = bench.fit_layer(layer, candidate, x)
        integer = bench.integer({layer.name: candidate}, {layer.name: fitted})
        judged = bench.judge(integer)
        difference = fitted.weight.dequantize().reshape(weight.shape).astype(np.float64) - weight
        error = float(np.square(difference).sum())
        rows.append(
            Measured(
                layer=layer.name,
                candidate=candidate,
                loss=judged.loss,
                agreement=judged.agreement,
                sqnr_db=judged.sqnr_db,
                local_db=_local(bench, layer, candidate, fitted, x),
                weight_db=_db(float(np.square(weight.astype(np.float64)).sum()), error),
                error=error,
                nbytes=node_bytes(integer, layer.name),
            )
        )
    return rows


def _local(
    bench: Workbench, layer: Node, candidate: Candidate, fitted: LayerWeights, x: npt.NDArray[np.float32]
) -> float:
    """Signal to noise of a layer's result before its activation, in dB."""
    import torch

    scheme = bench.scheme({layer.name: candidate})
    op: Any = without_rectify(layer.op)  # type: ignore[arg-type]
    exact = [torch.tensor(bench.graph.constants[n]) for n in layer.inputs[1:]]
    weight = torch.from_numpy(fitted.weight.dequantize().reshape(exact[0].shape))
    bias = torch.from_numpy(fitted.bias.astype(np.float32))
    reals = torch.from_numpy(x[:32])
    want = op.torch(reals, *exact).double()
    read = scheme.operand(layer, layer.inputs[0])
    coarse, kept = fake_quantize(reals, read), scheme.trim(layer)
    got = op.torch(fake_trim(coarse, read, *kept) if kept else coarse, weight, bias).double()
    return _db(float(want.square().sum()), float((got - want).square().sum()))


def _db(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(max(signal, 1e-300) / noise)


def losses(measured: Sequence[Measured], base: float, floor: float = 0.0) -> dict[tuple[str, Candidate], float]:
    """Added loss by layer and candidate: never below zero, and never less for a coarser format than for a finer one.

    Judged samples are few; where a coarser format came out ahead of a finer one, that is their chance.

    Args:
        measured: rows of all layers.
        base: loss of the 8-bit network.
        floor: of every candidate but 8 bits.
    """
    from subbyte.allocation.candidates import bits

    found: dict[tuple[str, Candidate], float] = {}
    for row in measured:
        found[row.layer, row.candidate] = max(row.loss - base, floor if row.candidate != BASE else 0.0)
    for layer in dict.fromkeys(r.layer for r in measured):
        for kind in {_kind(r.candidate) for r in measured if r.layer == layer}:
            mine = [c for (n, c) in found if n == layer and _kind(c) == kind]
            least = 0.0
            for candidate in sorted(mine, key=bits, reverse=True):
                least = found[layer, candidate] = max(least, found[layer, candidate])
    return found


def _kind(candidate: Candidate) -> tuple[str, str]:
    """Candidates with these in common differ in the coarseness of their weights alone."""
    return candidate.activations, candidate.granularity


def check_method(name: str) -> str:
    """A known sensitivity.

    Raises:
        AllocationError: it is unknown.
    """
    if name not in METHODS:
        raise AllocationError(*unknown_name("sensitivity", name, METHODS))
    return name
