"""Facts about single nodes of an exported program: liveness, names, modules, shared memory."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from subbyte.ingest.torch_call import Unsupported

if TYPE_CHECKING:
    from torch import fx


def live_nodes(graph: fx.Graph) -> set[fx.Node]:
    """Calls whose results reach the output."""
    live: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or any(user in live for user in node.users):
            live.add(node)
    return live


def is_tensor(example: Any) -> bool:
    """Whether a result is a tensor or holds one."""
    import torch

    if isinstance(example, tuple | list):
        return any(map(is_tensor, example))
    return isinstance(example, torch.Tensor)


def is_cast(node: fx.Node) -> bool:
    """Whether a call turns its operand into reals and does nothing else (or only asserts)."""
    example = node.meta.get("val")
    return example is None or (
        base_name(node.target) in {"to", "float", "type_as", "_to_copy"} and example.is_floating_point()
    )


def base_name(target: Any) -> str:
    """``relu`` of ``aten.relu_.default``: without namespace, overload and the mark of in-place forms."""
    name = str(getattr(getattr(target, "_schema", None), "name", target)).removeprefix("aten::")
    return name.removesuffix("_") if getattr(getattr(target, "_schema", None), "is_mutable", False) else name


def leaves(thing: Any) -> Iterable[Any]:
    """What nested lists and mappings hold."""
    if isinstance(thing, list | tuple):
        for part in thing:
            yield from leaves(part)
    elif isinstance(thing, Mapping):
        yield from leaves(list(thing.values()))
    else:
        yield thing


def module_of(node: fx.Node) -> tuple[str, bool]:
    """The user's module path, and whether that module is torch's own (``Conv2d``), which the path then names."""
    stack = [entry for entry in (node.meta.get("nn_module_stack") or {}).values() if not entry[0].startswith("_empty")]
    if not stack:
        return "", False
    path, kind = stack[-1]
    name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    path = re.sub(r"@\d+", "", path)
    return path, bool(path) and name.startswith("torch.nn.modules.")


_VIEWS = frozenset({"view", "reshape", "flatten", "squeeze", "unsqueeze", "permute", "transpose", "t", "slice"})
_VIEWS |= {"select", "chunk", "split", "split_with_sizes", "unbind", "narrow", "expand", "view_as", "reshape_as"}
_VIEWS |= {"unflatten", "swapaxes", "swapdims", "detach", "contiguous", "alias", "diagonal", "tensor_split", "to"}


def changed(node: fx.Node) -> fx.Node | None:
    """The tensor that owns the memory which a call changes in place; None for other calls."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable or base_name(node.target) == "detach" or not node.args:
        return None
    return _root(node.args[0]) if hasattr(node.args[0], "users") else None


def check_alias(node: fx.Node) -> None:
    """Refuse an in-place call on a tensor that views share, if one of them is read afterwards.

    torch's trace already replaces the changed tensor itself by the result in all later calls, but not its views.
    """
    owner = changed(node)
    if owner is None:
        return
    order = {n: i for i, n in enumerate(node.graph.nodes)}
    for other in node.graph.nodes:
        if other is node or other.op == "output" or _root(other) is not owner:
            continue
        if any(order[user] > order[node] for user in other.users):
            raise Unsupported("it changes in place a tensor of which a view is used afterwards; use the plain form")


def _root(node: Any) -> Any:
    """The tensor whose memory a node shares."""
    while node.op == "call_function" and node.args and hasattr(node.args[0], "users"):
        if base_name(node.target) not in _VIEWS and node.target is not operator.getitem:
            break
        node = node.args[0]
    return node
