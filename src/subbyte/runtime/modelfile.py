"""The .subbyte file: save and load an integer graph; the loader trusts nothing that it reads.

The road of a file in: read once, raw checks and digest (container), typed decoding (codec), then ``verify`` recomputes
every shape and accumulator proof, and last header and payload are compared with those that this graph would be written
with, so that nothing unused or differently spelled can hide in them. Only then does the caller get a graph.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import subbyte.graph.ops  # noqa: F401 - registers the operators
from subbyte.arithmetic.requant import ARITHMETICS
from subbyte.errors import ModelFileError, SubbyteError, unknown_name
from subbyte.files import atomic_write, read_file
from subbyte.graph.ir import Graph, Node
from subbyte.graph.verify import verify
from subbyte.names import MAX_NAME, printable
from subbyte.runtime import codec, container
from subbyte.runtime.constants import Part, Writer
from subbyte.runtime.container import broken
from subbyte.runtime.described import Formats

_MAX_DEPTH = 6
_RESCALE = ("scale", "group_scale", "zero", "m", "n", "m_neg", "n_neg", "divisors")
_BUDGET = {"codes": "weights", "bias": "biases", **dict.fromkeys(_RESCALE, "rescale")}


def save_model(path: str | os.PathLike[str], graph: Graph, metadata: Mapping[str, Any]) -> int:
    """Write a model file, whole or not at all.

    Args:
        path: of the file; replaced if it exists.
        graph: integer graph.
        metadata: facts that travel with it: JSON values by name; ``arithmetic`` must be a known one if given.

    Returns:
        Size of the file in bytes.

    Raises:
        SubbyteError: the graph breaks an invariant, the metadata is no JSON, or the file cannot be written.
    """
    data = to_bytes(graph, metadata)
    atomic_write(path, data)
    return len(data)


def to_bytes(graph: Graph, metadata: Mapping[str, Any]) -> bytes:
    r"""The content of the model's file: the same graph and metadata give the same bytes.

    Unprintable characters of names are written as visible escapes (``\x1b``).

    Raises:
        SubbyteError: the graph breaks an invariant, or the metadata is no JSON.
    """
    verify(graph, "integer")
    text, payload = _written(graph, metadata)
    return container.assemble(text, payload)


def load_model_file(path: str | os.PathLike[str]) -> tuple[Graph, dict[str, Any]]:
    """The verified integer graph and metadata of a file.

    Raises:
        ModelFileError: it cannot be read, is damaged, inconsistent or of an unknown version.
        GraphError: an operator is unknown or the graph breaks an invariant.
        FormatError: a format's table is illegal, or not the one known by its name.
        LoweringError: an accumulator can leave int32.
    """
    try:
        data = read_file(path)
    except OSError as error:
        raise ModelFileError(
            f"cannot read {str(path)!r}: {error.strerror or error}",
            "a model file is a regular file that can be read",
            "check the path",
            f"file {str(path)!r}",
        ) from error
    try:
        return from_bytes(data)
    except SubbyteError as error:
        place = f"{error.place}, file {str(path)!r}" if error.place else f"file {str(path)!r}"
        raise type(error)(error.seen, error.rule, error.remedy, place) from error


def from_bytes(data: bytes) -> tuple[Graph, dict[str, Any]]:
    """Like ``load_model_file``, from a file's content."""
    text, content, payload = container.take_apart(data)
    container.exact_keys(content, {"codes", "metadata", "formats", "graph"}, "header")
    metadata = _checked_metadata(content["metadata"])
    graph = codec.decode(content, payload)
    verify(graph, "integer")
    container.check_canonical(text, payload, *_written(graph, metadata))
    return graph, metadata


def budget(parts: Sequence[Part], file_bytes: int) -> dict[str, int]:
    """What a file's bytes go to: ``weights``, ``biases``, ``rescale``, ``tables`` and ``header``.

    Args:
        parts: of ``breakdown``.
        file_bytes: of the whole file; what no part takes is its header.

    Returns:
        Bytes by purpose; ``rescale`` are scales, of groups too, zero points and multipliers, ``tables`` all other
            constants.
    """
    found = dict.fromkeys(("weights", "biases", "rescale", "tables"), 0)
    for part in parts:
        found[_BUDGET.get(part.role, "tables")] += part.nbytes
    return {**found, "header": file_bytes - sum(found.values())}


def breakdown(graph: Graph) -> list[Part]:
    """What each constant takes in the graph's file, in the order of the nodes; the rest of the file is its header."""
    return codec.encode(_visible(graph))[2]


def node_bytes(graph: Graph, name: str, roles: Collection[str] = ()) -> int:
    """Bytes of the payload that one node's constants take: codes, scales, zero points, biases, tables.

    Args:
        graph: integer graph.
        name: of the node.
        roles: as in ``Part``, if only those count.
    """
    writer = Writer(graph, Formats())
    writer.operands(next(node for node in graph if node.name == name))
    return sum(part.nbytes for part in writer.parts if not roles or part.role in roles)


def _written(graph: Graph, metadata: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """(text of the header, payload)."""
    content, payload, _ = codec.encode(_visible(graph))
    return container.header_text({"metadata": _checked_metadata(metadata), **content}), payload


def _visible(graph: Graph) -> Graph:
    """The graph with every name printable."""
    names = [*graph.types, *graph.constants]
    shown = {name: printable(name) for name in names}
    nodes = [printable(node.name) for node in graph]
    for name in (*shown.values(), *nodes):
        if len(name) > MAX_NAME:
            raise broken(f"the name {name[:40]!r}... has {len(name)} characters", f"names have at most {MAX_NAME}")
    if len(set(shown.values())) != len(names) or len(set(nodes)) != len(nodes):
        raise broken("two names differ only in unprintable characters", "names differ after escaping")
    return Graph(
        name=printable(graph.name)[:MAX_NAME],
        inputs=tuple(shown[n] for n in graph.inputs),
        outputs=tuple(shown[n] for n in graph.outputs),
        types={shown[n]: kind for n, kind in graph.types.items()},
        constants={shown[n]: c for n, c in graph.constants.items()},
        nodes=tuple(_visible_node(node, shown) for node in graph),
    )


def _visible_node(node: Node, shown: Mapping[str, str]) -> Node:
    return Node(
        name=printable(node.name),
        op=node.op,
        inputs=tuple(shown[n] for n in node.inputs),
        output=shown[node.output],
        module=printable(node.module)[:MAX_NAME],
    )


def _checked_metadata(metadata: Any) -> dict[str, Any]:
    if not isinstance(metadata, Mapping):
        raise broken(f"metadata is {container.shown(metadata)}", "metadata is an object", "metadata")
    arithmetic = metadata.get("arithmetic", ARITHMETICS[0])
    if not isinstance(arithmetic, str) or arithmetic not in ARITHMETICS:
        raise ModelFileError(*unknown_name("arithmetic", str(arithmetic)[:40], ARITHMETICS), "metadata")
    result = _plain(dict(metadata), _MAX_DEPTH)
    assert isinstance(result, dict)
    return result


def _plain(value: Any, depth: int) -> Any:
    """A JSON value with printable text; ModelFileError for what JSON cannot say."""
    if depth == 0:
        raise broken("metadata is nested too deeply", f"metadata has at most {_MAX_DEPTH} levels", "metadata")
    if isinstance(value, str):
        return printable(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, (list, tuple)):
        return [_plain(v, depth - 1) for v in value]
    if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {printable(k): _plain(v, depth - 1) for k, v in value.items()}
    raise broken(
        f"metadata holds {container.shown(value)} ({type(value).__name__})",
        "metadata is finite JSON values",
        "metadata",
    )
