"""How a search goes about its work; what it is asked for is in ``goal.py``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from subbyte.allocation.candidates import WEIGHTS, legal, parse_candidates
from subbyte.allocation.executors import Executor
from subbyte.allocation.problem import Candidate, Tie
from subbyte.allocation.sensitivity import check_method
from subbyte.allocation.ties import partner_ties, sibling_ties
from subbyte.arithmetic.requant import Arithmetic
from subbyte.errors import AllocationError, unknown_name
from subbyte.graph.ir import Graph, Node
from subbyte.ingest.data import Preprocess
from subbyte.quantization.learning import Learning
from subbyte.quantization.methods import LEARNED_METHODS

Tied = Literal["operands", "all", "none"]
TIED: tuple[str, ...] = ("operands", "all", "none")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that has a usual value.

    Attributes:
        candidates: weights, or ``weights/activations``; 8 bits is always among them. Weights are a format, or one in
            groups (``int4:per_group(32)``, ``int4:dual_grained(64)``).
        activations: operands that weights are combined with: formats, or trims of 8-bit codes (``sparq4_5opt_v``).
        pinned: candidate by regular expression on layer names and module paths; ``""`` as candidate means 8 bits.
        tied: ``operands``: layers that read one value read it in one format; ``all``: also residual partners, branches
            of a concat and siblings agree in everything, as in HAWQ-V3; ``none``.
        sensitivity: ``divergence`` (measured on the integer network), ``hessian``, ``fisher`` or ``weights``.
        arithmetic: of every rescale.
        samples: used at most; up to 256 are fitted, the rest is judged.
        seed: of every random choice.
        preprocess: applied to every sample, and stored in the model.
        labels: class numbers of the samples, where the data does not bring them.
        executor: ``local``, ``processes``, ``ray``, with a number of workers as in ``processes:2``, or one of your own.
        journal: file that results are written to as they come; a search that finds its journal goes on there.
        minimise: cost that is made small where only promises are given.
        compare: recipes that are tried beside, for the table and the plot.
        trials: allocations that are tried for real in each round.
        refine: further rounds, with sensitivities measured around the best allocation of the round before.
        tolerance: of ``like``: how many standard errors of the judged agreement its loss may be worth more. Answers
            change their class as the root of the loss, so the loss tells of disagreements too few to count. 0: not more
            loss; below 0: less, because the answer is chosen on the judged samples and does a little worse on others.
        finish: methods that learn (``distill``, ..) in a last round: what they gain is spent on fewer bits. Minutes for
            each network that is tried.
        learning: their settings.
    """

    candidates: Sequence[str] = WEIGHTS
    activations: Sequence[str] = ("uint8",)
    pinned: Mapping[str, str] = field(default_factory=dict)
    tied: Tied = "operands"
    sensitivity: str = "divergence"
    arithmetic: Arithmetic = "m31"
    samples: int = 1024
    seed: int = 0
    preprocess: Preprocess | None = None
    labels: Any = None
    executor: str | Executor = "local"
    journal: str | Path | None = None
    minimise: str = "bytes"
    compare: Sequence[str] = ()
    trials: int = 8
    refine: int = 0
    tolerance: float = 0.0
    finish: Sequence[str] = ()
    learning: Learning = field(default_factory=Learning)

    def __post_init__(self) -> None:
        check_method(self.sensitivity)
        for name in self.finish:
            if name not in LEARNED_METHODS:
                raise AllocationError(*unknown_name("method that learns", name, LEARNED_METHODS))
        if self.tied not in TIED:
            raise AllocationError(*unknown_name("kind of tie", self.tied, TIED))
        if self.trials < 2 or self.refine < 0:
            seen = f"{self.trials} trials, {self.refine} further rounds"
            raise AllocationError(seen, "a round tries 2 allocations or more; rounds are counted from 0", "allow more")
        if not -1 <= self.tolerance <= 1:
            seen, rule = f"tolerance is {self.tolerance}", "a tolerance is -1 to 1 standard errors"
            raise AllocationError(seen, rule, "correct it")

    def options(self, layers: Sequence[Node]) -> dict[str, tuple[Candidate, ...]]:
        """Candidates by layer name.

        Raises:
            AllocationError: a pin matches no layer, or pins one to something that it cannot take; or weights in groups
                are to be learned in the last round.
            FormatError: an unknown format.
        """
        listed = parse_candidates(self.candidates, self.activations)
        found = {n.name: legal(listed, n) for n in layers}
        for pattern, text in self.pinned.items():
            names = [n for n in layers if _matches(pattern, n)]
            wanted = parse_candidates([text or "int8"])[0]
            for node in names:
                found[node.name] = legal([wanted], node)
            if not names or not all(found[n.name] for n in names):
                seen = f"{pattern!r} is pinned to {wanted}"
                where = "it matches no layer" if not names else f"layer {names[0].name!r} does not take it"
                raise AllocationError(seen, where, f"layers are {', '.join(n.name for n in layers[:6])}")
        grouped = next((c for cs in found.values() for c in cs if c.granularity), None)
        if self.finish and grouped:
            seen = f"{grouped} is a candidate, and {self.finish[0]} finishes"
            rule = "methods that learn know scales of channels, not of groups"
            raise AllocationError(seen, rule, "leave out the groups or the finish")
        return found

    def ties(self, graph: Graph) -> list[Tie]:
        """Ties of a prepared float graph."""
        if self.tied == "none":
            return []
        siblings = sibling_ties(graph)
        if self.tied == "operands":
            return siblings
        return [*(Tie(layers=t.layers, why=t.why) for t in siblings), *partner_ties(graph)]


def _matches(pattern: str, node: Node) -> bool:
    try:
        return any(re.search(pattern, text) for text in (node.name, node.module))
    except re.error as error:
        raise AllocationError(
            f"{pattern!r} is no regular expression: {error}", "pins are searched as regular expressions", "escape it"
        ) from error
