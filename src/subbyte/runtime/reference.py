"""The NumPy reference: what an integer graph means. Slow, obvious, and what every other executor must equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from subbyte.graph.feeds import check_codes
from subbyte.graph.ir import Graph, IntType
from subbyte.graph.ops.op import IntCall

Codes = npt.NDArray[Any]


def run_reference(graph: Graph, codes: Mapping[str, Codes], keep: bool = False) -> dict[str, Codes]:
    """Run an integer graph on stored integers.

    Args:
        graph: in the integer dialect, verified.
        codes: stored integers by input name, batch first.
        keep: return every value, inputs included; otherwise the graph's outputs, and free the others after use.

    Returns:
        Stored integers by value name, each in the storage of its type (uint8 or int16).

    Raises:
        RunError: names, shapes or codes differ from the graph's inputs.
    """
    check_codes(graph, codes)
    env: dict[str, Codes] = {}
    for name in graph.inputs:
        kind = graph.types[name]
        assert isinstance(kind, IntType)  # check_codes has seen to it
        env[name] = codes[name].astype(kind.storage)
    last_use = {name: index for index, node in enumerate(graph) for name in node.inputs}
    for index, node in enumerate(graph):
        env[node.output] = node.op.numpy(IntCall.of(graph, node, env))
        for name in set(node.inputs) & set(env) - set(graph.outputs):
            if not keep and last_use[name] == index:
                del env[name]
    return env if keep else {name: env[name] for name in graph.outputs}
