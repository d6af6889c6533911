"""The state of a layout change: a new graph grows while it is known where each of the user's values lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from subbyte.graph.ir import BATCH, Constant, FloatType, Graph, Node, Shape, TensorType
from subbyte.graph.ops.identity import Identity
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.ops.transpose import Transpose
from subbyte.graph.passes.layout import Perm, Stored, identity, permuted
from subbyte.graph.passes.protocol import PassResult


class LayoutWalk:
    """Grows the new graph; the rules of operators (``layout_rules``) call it node by node in execution order."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._nodes: list[Node] = []
        self._types: dict[str, TensorType] = {name: graph.types[name] for name in graph.inputs}
        self._constants: dict[str, Constant] = {}
        self._stored = {name: Stored(name, identity(len(graph.types[name].shape))) for name in graph.inputs}
        self._moved: dict[tuple[str, Perm], str] = {}
        self._dissolved: dict[str, Node] = {}
        self._uses = Counter(i for n in graph for i in n.inputs)
        self._taken = {*graph.types, *graph.constants, *(n.name for n in graph)}

    def shape(self, value: str) -> Shape:
        """The shape of a value as the user sees it."""
        return self.graph.types[value].shape

    def stored(self, value: str) -> Stored:
        """Where a value lies."""
        return self._stored[value]

    def constant(self, name: str) -> npt.NDArray[np.generic] | None:
        """A constant of the user's graph; None for values."""
        constant = self.graph.constants.get(name)
        return constant if isinstance(constant, np.ndarray) else None

    # Making nodes

    def emit(self, node: Node, op: Op, inputs: Sequence[str], lies: Stored) -> None:
        """Write a node with its new operator and operands; its value then lies as ``lies`` says (whose name is unused).

        A graph output that does not lie in the user's order is made under a name of its own and moved at the end.
        """
        value = node.output
        if value in self.graph.outputs and not lies.plain:
            value = self._fresh(f"{value}.channels_last")
        self._append(replace(node, op=op, inputs=tuple(inputs), output=value))
        self._stored[node.output] = replace(lies, name=value)

    def dissolve(self, node: Node, lies: Stored) -> None:
        """Record that a node's value already lies somewhere, so that nothing needs to be computed."""
        self._stored[node.output] = lies
        self._dissolved[node.output] = node

    def keep(self, constant: str) -> str:
        """Take a constant over as it is; returns its name."""
        self._constants[constant] = self.graph.constants[constant]
        return constant

    def relay(self, constant: str, array: npt.NDArray[np.generic]) -> str:
        """Take a constant over in another order, under its own name if it is used only once; returns the name."""
        old = self.constant(constant)
        if old is not None and old.shape == array.shape and np.array_equal(old, array):
            return self.keep(constant)
        name = constant if self._uses[constant] == 1 else self._fresh(constant)
        self._constants[name] = np.ascontiguousarray(array)
        return name

    def bring(self, value: str, perm: Perm, reader: Node) -> str:
        """Name of a value in the given order, unshuffled; moved there in front of ``reader`` if it lies otherwise.

        A move that keeps the order of the axes longer than 1 is a reshape, which costs nothing at run time.
        """
        lies = self._stored[value]
        if lies.shuffle is not None:
            return self._unshuffle(value, lies, reader)
        if lies.perm == perm:
            return lies.name
        steps = tuple(lies.perm.index(axis) for axis in perm)
        if (lies.name, steps) not in self._moved:
            shape = permuted(self.shape(value), perm)
            long = [place for place in steps if self._types[lies.name].shape[place] != 1]
            op = Reshape(shape=(BATCH, *shape[1:])) if long == sorted(long) else Transpose(perm=steps)
            plain = perm == identity(len(perm))
            self._moved[lies.name, steps] = self._move(value, op, lies.name, reader, plain=plain)
        return self._moved[lies.name, steps]

    def finish(self) -> PassResult:
        """The new graph, its outputs in the user's order; the old one if nothing had to change."""
        for value in self.graph.outputs:
            if value not in self._types:
                maker = self._dissolved.get(value) or Node(name=value, op=Identity(), inputs=(), output=value)
                source = self.bring(value, identity(len(self.shape(value))), maker)
                if source != value:
                    self._move(value, Identity(), source, maker, plain=True)
        same = tuple(self._nodes) == self.graph.nodes
        if same and all(self._constants.get(name) is c for name, c in self.graph.constants.items()):
            return PassResult(self.graph, False)
        graph = self.graph.evolve(nodes=tuple(self._nodes), types=self._types, constants=self._constants)
        return PassResult(graph, True)

    # Inside

    def _unshuffle(self, value: str, lies: Stored, reader: Node) -> str:
        assert lies.shuffle is not None
        key = (lies.name, ())
        if key not in self._moved:
            sizes, order = lies.shuffle.sizes, lies.shuffle.order
            back = (0, *(order.index(axis) + 1 for axis in range(len(order))))
            block = Reshape(shape=(BATCH, *(sizes[axis] for axis in order)))
            name = self._move(value, block, lies.name, reader, plain=False)
            name = self._move(value, Transpose(perm=back), name, reader, plain=False)
            self._moved[key] = self._move(value, Reshape(shape=self.shape(value)), name, reader, plain=True)
        return self._moved[key]

    def _move(self, value: str, op: Op, source: str, reader: Node, *, plain: bool) -> str:
        """Add a node that moves a value; in the user's order it gets the user's name, if that is free."""
        origin = self._dissolved.pop(value, None) if plain else None
        name = origin.name if origin is not None else self._fresh(f"{reader.name}.layout")
        output = value if plain and value not in self._types else name
        module = (origin or reader).module
        self._append(Node(name=name, op=op, inputs=(source,), output=output, module=module))
        return output

    def _append(self, node: Node) -> None:
        operands = [self._types[i] if i in self._types else self._constants[i] for i in node.inputs]
        self._types[node.output] = FloatType(shape=node.op.infer(operands))
        self._nodes.append(node)

    def _fresh(self, hint: str) -> str:
        name, count = hint, 0
        while name in self._taken:
            count += 1
            name = f"{hint}.{count}"
        self._taken.add(name)
        return name
