"""Tests of what a caller feeds to a graph, made by every executor before the first operator runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from subbyte.errors import RunError
from subbyte.graph.ir import Graph, IntType


def check_feeds(graph: Graph, feeds: Mapping[str, Any]) -> None:
    """One array or tensor per graph input, of its shape, all with the same batch of at least 1.

    Raises:
        RunError: names, shapes or batches differ from the graph's inputs, or one is no array.
    """
    place = f"graph {graph.name!r}"
    if set(feeds) != set(graph.inputs):
        seen = f"inputs {sorted(feeds)}"
        raise RunError(seen, f"the inputs are {sorted(graph.inputs)}", "feed each of them by name", place)
    batches = set()
    for name in graph.inputs:
        if not hasattr(feeds[name], "shape"):
            seen = f"input {name!r} is a {type(feeds[name]).__name__}"
            raise RunError(seen, "inputs are arrays or tensors", "wrap it in numpy.asarray", place)
        shape, wanted = tuple(feeds[name].shape), tuple(graph.types[name].shape)
        if len(shape) != len(wanted) or shape[1:] != wanted[1:] or shape[0] < 1:
            rule = f"its shape is {['batch', *wanted[1:]]} with a batch of at least 1"
            raise RunError(f"input {name!r} has shape {list(shape)}", rule, "reshape it or transpose it", place)
        batches.add(shape[0])
    if len(batches) > 1:
        seen = f"inputs with batches {sorted(batches)}"
        raise RunError(seen, "all inputs have the same batch", "feed equally many samples to each", place)


def check_codes(graph: Graph, codes: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """``check_feeds``, and integers within what each input's format allows.

    Raises:
        RunError: also where an input is no integer array or holds an illegal code.
    """
    check_feeds(graph, codes)
    for name in graph.inputs:
        array, kind = codes[name], graph.types[name]
        if not isinstance(kind, IntType) or array.dtype.kind not in "iu":
            seen = f"input {name!r} is {array.dtype} where the graph holds a {type(kind).__name__}"
            raise RunError(
                seen, "stored integers go into an integer graph", "encode the input", f"graph {graph.name!r}"
            )
        if array.min() < kind.lo or array.max() > kind.hi:
            seen = f"input {name!r} holds {array.min()}..{array.max()}"
            rule = f"its format {kind.format.name} allows {kind.lo}..{kind.hi}"
            raise RunError(seen, rule, "encode the input with its scale and zero point", f"graph {graph.name!r}")
