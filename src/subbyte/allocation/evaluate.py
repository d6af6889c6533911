"""A whole allocation for real: quantized through the ordinary pipeline, run on the native engine, and judged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.allocation.candidates import bits as weight_bits
from subbyte.allocation.candidates import candidate_of, operand_bits
from subbyte.allocation.costs import packed_bytes, peak_activation_bytes, weight_count
from subbyte.allocation.divergence import distance
from subbyte.allocation.plan import finished, recipe_of
from subbyte.allocation.problem import Candidate
from subbyte.allocation.samples import FIT
from subbyte.allocation.workbench import Workbench, integer_answers
from subbyte.ingest.data import batches
from subbyte.model import QuantizedModel, provenance
from subbyte.pipeline import BATCH_SIZE, to_integers
from subbyte.quantization.learning import Learning
from subbyte.quantization.methods.network import Network
from subbyte.quantization.recipe import Recipe, load_recipe
from subbyte.quantization.resolve import resolve
from subbyte.runtime.modelfile import to_bytes


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What an allocation is worth.

    Attributes:
        choice: candidate of every layer.
        loss: per judged sample, see ``Distance``.
        agreement: with the float network's best class, percent; NaN where there are no classes.
        drop: of top-1 in points; NaN without labels.
        sqnr_db: of the scores.
        costs: real ones: ``bytes`` of the file, ``bits`` per weight, ``bops``, ``activation_bytes`` at the peak.
        name: how the table calls it.
    """

    choice: Mapping[str, Candidate]
    loss: float
    agreement: float
    drop: float
    sqnr_db: float
    costs: Mapping[str, float]
    name: str = field(default="")

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN and infinity as None."""
        values = asdict(self)
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        return {**plain, "choice": {n: list(astuple(c)) for n, c in self.choice.items()}}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Trial:
        """The inverse of ``to_json`` (infinities come back as NaN)."""
        choice = {n: Candidate(*c) for n, c in values["choice"].items()}
        rest: dict[str, Any] = {k: math.nan if v is None else v for k, v in values.items() if k != "choice"}
        return Trial(**rest, choice=choice)


@dataclass(frozen=True)
class TrialTask:
    """Quantize with a recipe and judge.

    Attributes:
        recipe: of the allocation.
        name: see ``Trial``.
        seed: of every random choice.
    """

    recipe: Recipe
    name: str
    seed: int


def allocation_task(
    bench: Workbench,
    choice: Mapping[str, Candidate],
    name: str,
    seed: int,
    finish: Sequence[str] = (),
    learning: Learning | None = None,
) -> TrialTask:
    """The task that tries an allocation; with methods that learn at the end, if any are given."""
    recipe = recipe_of(choice, bench.graph, name or "search")
    recipe = finished(recipe, bench.graph, finish, learning or recipe.learning, bench.samples.synthetic)
    return TrialTask(recipe, name or " + ".join(finish), seed)


def recipe_task(recipe: str | Recipe, seed: int) -> TrialTask:
    """The task that tries a recipe of the user's, to compare with."""
    loaded = load_recipe(recipe)
    return TrialTask(loaded, loaded.name, seed)


def build(bench: Workbench, task: TrialTask) -> QuantizedModel:
    """The integer model of a task, from the fitted samples."""
    fit = {n: np.array(x) for n, x in bench.samples.fit.items()}
    data = batches(fit, bench.graph, batch_size=BATCH_SIZE, limit=FIT, seed=task.seed)
    known = Network(graph=bench.graph, normals=bench.normals, batches=data, synthetic=bench.samples.synthetic)
    graph = to_integers(known, task.recipe, bench.arithmetic, FIT, bench.ranges, task.seed)
    return QuantizedModel(graph, provenance(task.recipe.name, bench.arithmetic, data.samples, task.seed, None))


def try_recipe(bench: Workbench, task: TrialTask) -> tuple[Trial, bytes]:
    """Quantize and judge: a job of an executor.

    Args:
        bench: of the network.
        task: what to try.

    Returns:
        What it is worth, and the model file.
    """
    built = build(bench, task)
    return judge(bench, built, task), to_bytes(built.graph, built.metadata)


def judge(bench: Workbench, built: QuantizedModel, task: TrialTask) -> Trial:
    """What a built model is worth."""
    choice = {n: candidate_of(c) for n, c in resolve(task.recipe, bench.graph).items()}
    graph = built.graph.evolve(outputs=(bench.answer.value,))
    scores = integer_answers(graph, bench.samples.judged, bench.answer)
    found = distance(bench.exact, scores, bench.answer.kind)
    macs = {n.name: n.op.macs([bench.graph.operand(i) for i in n.inputs], bench.graph.types[n.output].shape)
            for n in bench.layers}  # fmt: skip
    codes = packed_bytes(built.graph)
    weights = sum(weight_count(bench.graph, n) for n in bench.layers)
    costs = {
        "bytes": float(built.nbytes),
        "bits": 8.0 * sum(codes[n.name] for n in bench.layers) / weights,
        "bops": float(sum(m * weight_bits(choice[n]) * operand_bits(choice[n]) for n, m in macs.items())),
        "activation_bytes": float(peak_activation_bytes(built.graph)[0]),
    }
    return Trial(
        choice=choice,
        loss=found.loss,
        agreement=found.agreement,
        drop=drop(bench.exact, scores, bench.samples.labels),
        sqnr_db=found.sqnr_db,
        costs=costs,
        name=task.name,
    )


def drop(exact: npt.NDArray[Any], approximate: npt.NDArray[Any], labels: npt.NDArray[np.int64] | None) -> float:
    """Points of top-1 lost on labelled samples; NaN without labels."""
    if labels is None:
        return math.nan
    want, got = (a.reshape(len(a), -1).argmax(1) == labels for a in (exact, approximate))
    return 100 * float(want.mean() - got.mean())
