"""What a network is judged by: its scores, in front of the softmax or argmax that normalises or hides them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from subbyte.graph.ir import Graph
from subbyte.graph.ops.argmax import Argmax
from subbyte.graph.ops.log_softmax import LogSoftmax
from subbyte.graph.ops.softmax import Softmax

Kind = Literal["classes", "reals"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a network is judged by.

    Attributes:
        value: name of the value, the same in the float and in the integer graph.
        kind: ``classes`` where its last axis holds the scores of at least two classes and all other axes but the
            batch have length 1; else ``reals``.
    """

    value: str
    kind: Kind


def find_answer(graph: Graph, output: str | None = None) -> Answer:
    """An output, or what a softmax or argmax behind it reads: scores carry more than their normalised form.

    Args:
        graph: of either dialect.
        output: name of one of the graph's outputs; the first one unless told.
    """
    value = graph.outputs[0] if output is None else output
    made = graph.producer(value)
    while (
        made is not None and isinstance(made.op, Softmax | LogSoftmax | Argmax) and made.op.axis in _last(graph, value)
    ):
        value = made.inputs[0]
        made = graph.producer(value)
    shape = [d or 0 for d in graph.types[value].shape[1:]]
    classes = bool(shape) and max(shape) > 1 and math.prod(shape) == max(shape)
    return Answer(value=value, kind="classes" if classes else "reals")


def _last(graph: Graph, value: str) -> tuple[int, ...]:
    made = graph.producer(value)
    assert made is not None
    rank = len(graph.types[made.inputs[0]].shape)
    return (-1, *(a for a in range(1, rank) if all((d or 2) == 1 for d in _rest(graph, made.inputs[0], a))))


def _rest(graph: Graph, value: str, axis: int) -> list[Any]:
    shape = graph.types[value].shape
    return [d for i, d in enumerate(shape) if i not in {0, axis}]
