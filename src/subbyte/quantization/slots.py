"""Every place where a network needs a quantized activation: between layers, and as a layer's operand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from subbyte.errors import FormatError
from subbyte.formats import get_format
from subbyte.formats.format import Format
from subbyte.formats.trims import Trim
from subbyte.graph.ir import Graph, Node
from subbyte.graph.ops.affine import Affine
from subbyte.graph.verify import place_of
from subbyte.quantization.clusters import Cluster
from subbyte.quantization.parts import FIXED_RANGE, MAKES_CODES, READS_WIDE, reads_bytes
from subbyte.quantization.recipe import Recipe
from subbyte.quantization.resolve import LayerChoice, is_wide


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One quantized activation to be given a range.

    Attributes:
        cluster: the values that it stands for.
        format: of its integers.
        readers: nodes whose output error judges a range.
        observer: name asked for by the recipe; None searches.
    """

    cluster: Cluster
    format: Format
    readers: tuple[Node, ...]
    observer: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Identifies the slot: cluster root and format name."""
        return self.cluster.root, self.format.name


@dataclass(frozen=True, kw_only=True)
class Slots:
    """All slots of a network.

    Attributes:
        storage: by cluster root, how the cluster's values are kept.
        operands: by (cluster root, format name), codes made for layers that multiply another format.
        trims: by node, what its operand's codes are kept to behind that.
    """

    storage: Mapping[str, Slot]
    operands: Mapping[tuple[str, str], Slot]
    trims: Mapping[str, Trim] = field(default_factory=dict)


def operand_format(node: Node, stored: Format, choices: Mapping[str, LayerChoice]) -> Format | None:
    """Format to which a node's activation must be re-coded before it; None takes it as stored."""
    if not reads_bytes(node.op):
        return None
    wanted = _multiplied(node, choices)
    if stored == wanted:
        return None
    if stored.storage == "uint8" and stored.levels <= wanted.levels:
        return None
    return wanted


def _multiplied(node: Node, choices: Mapping[str, LayerChoice]) -> Format:
    """What a node works on: a layer's operand format; bytes where it looks them up, the usual format elsewhere."""
    if node.name in choices:
        return choices[node.name].operand
    looks_up = reads_bytes(node.op) and not isinstance(node.op, Affine)
    return get_format("uint8") if looks_up else _usual(choices)


def _usual(choices: Mapping[str, LayerChoice]) -> Format:
    """What values are kept in that no layer decides about: 8 bits, or 16 where some layer multiplies more than these.

    Codes stand for more too: steps of which 256 are even lose the small values that such tables have.
    """
    wide = any(is_wide(c.operand) or c.operand.coded for c in choices.values())
    return get_format("int16" if wide else "uint8")


def multiplied_channels(graph: Graph, node: Node) -> int:
    """Channels that a layer multiplies together: those of one group of a convolution, all of a linear layer."""
    return int(graph.constants[node.inputs[1]].shape[-1])


def find_slots(graph: Graph, clusters: Sequence[Cluster], choices: Mapping[str, LayerChoice], recipe: Recipe) -> Slots:
    """Formats of all activations.

    Codes below 8 bits are the operands of layers. A value that layers alone read, all in one format, is stored in it
    where that is uniform, or where it is kept as codes and a layer or a table makes it; every other value is stored in
    8 bits (16, where some layer multiplies activations of 16 bits or codes) and re-coded at the layer; what only tables
    read is stored in the 8 bits that index them. Network outputs, and what softmax and argmax read, take the recipe's
    output format: 8-bit logits tie.
    """
    storage: dict[str, Slot] = {}
    operands: dict[tuple[str, str], Slot] = {}
    trims = {name: choice.trim for name, choice in choices.items() if choice.trim}
    for cluster in clusters:
        stored = _storage_format(graph, cluster, choices, recipe)
        makers = [choices[n.name] for n in cluster.makers if n.name in choices]
        observer = next((c.observer for c in makers if c.observer), None)
        direct = []
        for node in cluster.readers:
            wanted = operand_format(node, stored, choices)
            if node.name in trims:
                _require_bytes(graph, node, wanted or stored, trims[node.name])
            if wanted is None:
                direct.append(node)
                continue
            key = (cluster.root, wanted.name)
            before = operands[key].readers if key in operands else ()
            operands[key] = Slot(cluster=cluster, format=wanted, readers=(*before, node), observer=observer)
        readers = tuple(direct) or cluster.readers
        storage[cluster.root] = Slot(cluster=cluster, format=stored, readers=readers, observer=observer)
    return Slots(storage=storage, operands=operands, trims=trims)


def _require_bytes(graph: Graph, node: Node, read: Format, trim: Trim) -> None:
    if read.levels != 256 or read.coded:
        raise FormatError(
            f"{trim.name} is used on codes of format {read.name!r}, {read.levels} levels",
            "a trim keeps a window of 8-bit codes",
            "keep what the layer reads in uint8, or name a format of few bits as activations instead of the trim",
            place_of(graph, node),
        )


def _storage_format(graph: Graph, cluster: Cluster, choices: Mapping[str, LayerChoice], recipe: Recipe) -> Format:
    inside = set(cluster.values)
    if not inside.isdisjoint(graph.inputs):
        return get_format(recipe.input)
    if any(type(n.op) in FIXED_RANGE for n in cluster.makers):
        return get_format("int16")
    if not inside.isdisjoint(graph.outputs) or any(isinstance(n.op, READS_WIDE) for n in cluster.readers):
        return get_format(recipe.output)
    asked = [choices[n.name].storage for n in cluster.makers if n.name in choices]
    for format_ in asked:
        if format_ is not None:
            return format_
    wanted = {_multiplied(n, choices).name for n in cluster.readers}
    if len(wanted) == 1:
        only = get_format(wanted.pop())
        if only.uniform or (only.coded and all(_makes_codes(n, choices) for n in cluster.makers)):
            return only
    return _usual(choices)


def _makes_codes(node: Node, choices: Mapping[str, LayerChoice]) -> bool:
    rows = node.name in choices and choices[node.name].largest_row_code is not None
    return isinstance(node.op, MAKES_CODES) and not rows
