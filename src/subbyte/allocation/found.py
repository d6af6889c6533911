"""The answer of a search."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from subbyte.allocation.evaluate import Trial
from subbyte.allocation.plan import to_toml
from subbyte.allocation.problem import Allocation, Candidate, Problem
from subbyte.allocation.sensitivity import Measured
from subbyte.allocation.solver import number
from subbyte.model import QuantizedModel
from subbyte.quantization.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer of the answer.

    Attributes:
        layer: its name.
        op: operator name.
        candidate: what it got.
        bytes: of its packed weights.
        bops: bit operations of one sample.
        microseconds: of one sample; None where no time was asked for.
        loss: expected, with everything else at 8 bits; None where the candidate was not measured.
        local_db: signal to noise of its own result; None where losses were estimated.
    """

    layer: str
    op: str
    candidate: Candidate
    bytes: float
    bops: float
    microseconds: float | None
    loss: float | None
    local_db: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "candidate": str(self.candidate)}


@dataclass(frozen=True, kw_only=True)
class Found:
    """The answer of a search.

    Attributes:
        model: the integer model, as judged.
        recipe: the allocation as a recipe for ``quantize``.
        trial: what it is worth, measured.
        trials: everything that was tried for real, in that order.
        frontier: expected losses over ``cost``, exact solutions.
        cost: what the frontier is drawn over.
        problem: losses and costs of every candidate, as the solver saw them.
        base_loss: of 8 bits everywhere, which expected losses come on top of.
        rows: the answer by layer, for tables.
        measured: sensitivities with all their figures; empty where they were estimated.
        notes: what the user should know.
        seconds: spent in this call.
    """

    model: QuantizedModel
    recipe: Recipe
    trial: Trial
    trials: tuple[Trial, ...]
    frontier: tuple[Allocation, ...]
    cost: str
    problem: Problem
    base_loss: float
    rows: tuple[LayerRow, ...]
    measured: tuple[Measured, ...]
    notes: tuple[str, ...]
    seconds: float

    def to_toml(self) -> str:
        """The plan as a recipe file."""
        costs = ", ".join(f"{n} {number(v)}" for n, v in self.trial.costs.items())
        return to_toml(self.recipe, (f"Found by a search: {costs}.", *self.notes))
