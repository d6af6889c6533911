"""What a pass is, and the runner that checks each one's promises."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from subbyte.errors import GraphError
from subbyte.graph.ir import Graph
from subbyte.graph.passes.properties import PROPERTIES, violation
from subbyte.graph.verify import verify


@dataclass(frozen=True, slots=True)
class PassResult:
    """The rewritten graph, and whether anything was rewritten (if not, it is the very same object)."""

    graph: Graph
    changed: bool


class Pass(Protocol):
    """One rewrite of float graphs that keeps their outputs, and the names and order of inputs and outputs.

    Attributes:
        name: one word, for errors.
        requires: properties (names in ``properties.PROPERTIES``) that the graph must have before.
        ensures: properties that it has afterwards.
    """

    @property
    def name(self) -> str: ...

    @property
    def requires(self) -> frozenset[str]: ...

    @property
    def ensures(self) -> frozenset[str]: ...

    def __call__(self, graph: Graph) -> PassResult:
        """Rewrite; never changes the graph that it was given."""
        ...


def run_passes(graph: Graph, passes: Iterable[Pass]) -> PassResult:
    """Run passes in order; each is checked before, and its result after, whatever the pass says of itself.

    Raises:
        GraphError: a graph lacks a required property, or a pass broke an invariant or a promise.
    """
    start = graph
    for rewrite in passes:
        _check(graph, rewrite.requires, f"pass {rewrite.name} requires", "run the passes in the order of CANONICAL")
        result = rewrite(graph)
        if result.changed:
            verify(result.graph, "float")
            _check_interface(graph, result.graph, rewrite.name)
        _check(result.graph, rewrite.ensures, f"pass {rewrite.name} ensures", "report this as a defect of the pass")
        graph = result.graph
    return PassResult(graph, graph is not start)


def _check(graph: Graph, names: Iterable[str], who: str, remedy: str) -> None:
    for name in sorted(names):
        broken = violation(graph, name)
        if broken is not None:
            rule = f"{who} {name}: {PROPERTIES[name].meaning}"
            raise GraphError(f"{broken} breaks {name}", rule, remedy, f"graph {graph.name!r}")


def _check_interface(before: Graph, after: Graph, name: str) -> None:
    kept = before.inputs == after.inputs and before.outputs == after.outputs
    if not kept or any(before.types[v] != after.types[v] for v in before.inputs + before.outputs):
        raise GraphError(
            f"pass {name} changed the inputs or outputs of the graph",
            "a pass keeps names, order and types of inputs and outputs",
            "report this as a defect of the pass",
            f"graph {before.name!r}",
        )
