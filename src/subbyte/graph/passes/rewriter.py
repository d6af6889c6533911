"""A mutable copy of a graph for passes: replace, fuse and drop nodes with indexes kept up to date."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from subbyte.errors import GraphError
from subbyte.graph.ir import Constant, FloatType, Graph, Node, TensorType
from subbyte.graph.ops.op import Op
from subbyte.graph.passes.protocol import PassResult


class Rewriter:
    """Nodes by name with an index of who makes and who reads each value; ``finish`` sorts and freezes them.

    Every method is constant time in the size of the graph, but ``redirect`` and ``finish``.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.types: dict[str, TensorType] = dict(graph.types)
        self.constants: dict[str, Constant] = dict(graph.constants)
        self.outputs = frozenset(graph.outputs)
        self._nodes: dict[str, Node] = {}
        self._maker: dict[str, str] = {}
        self._readers: dict[str, dict[str, int]] = {}
        self._taken = {*graph.types, *graph.constants, *(n.name for n in graph)}
        self._changed = False
        for node in graph:
            self._index(node)

    # Looking

    def walk(self) -> Iterator[Node]:
        """Nodes that were there at the start, each as it is now, without those removed meanwhile."""
        for name in list(self._nodes):
            if name in self._nodes:
                yield self._nodes[name]

    def node(self, name: str) -> Node:
        """A node as it is now, by its name."""
        return self._nodes[name]

    def maker(self, value: str) -> Node | None:
        """The node that makes a value."""
        name = self._maker.get(value)
        return None if name is None else self._nodes[name]

    def readers(self, value: str) -> list[Node]:
        """The nodes that read a value or constant."""
        return [self._nodes[name] for name in self._readers.get(value, {})]

    def private_maker(self, value: str) -> Node | None:
        """The node that makes a value which is read in one place only and is no graph output."""
        reads = sum(self._readers.get(value, {}).values())
        return self.maker(value) if reads == 1 and value not in self.outputs else None

    def array(self, name: str) -> npt.NDArray[np.float64] | None:
        """A constant as float64; None for values and quantized tensors."""
        constant = self.constants.get(name)
        return constant.astype(np.float64) if isinstance(constant, np.ndarray) else None

    def known_array(self, name: str) -> npt.NDArray[np.float64]:
        """A constant that is known to be an array, as float64."""
        array = self.array(name)
        assert array is not None
        return array

    def operands(self, node: Node) -> list[TensorType | Constant]:
        """Types of the values and the constants that a node reads."""
        return [self.types[i] if i in self.types else self.constants[i] for i in node.inputs]

    # Changing

    def replace(self, node: Node, *, op: Op | None = None, inputs: Sequence[str] | None = None) -> Node:
        """Give a node another operator or other inputs; name, output and the output's shape stay."""
        self._unindex(node)
        return self._index(
            replace(node, op=node.op if op is None else op, inputs=node.inputs if inputs is None else tuple(inputs))
        )

    def wrap(self, node: Node, before: Op, inner: Op, parameters: Sequence[str], after: Op) -> Node:
        """``after(inner(before(x), parameters))`` in place of a node of one value x; its name stays on ``inner``.

        The node's value keeps its name, which ``after`` now makes.
        """
        wide = self.insert(f"{node.name}.before", before, node.inputs[:1], module=node.module)
        self._unindex(node)
        value = self.fresh(f"{node.output}.inner")
        changed = self._index(replace(node, op=inner, inputs=(wide, *parameters), output=value))
        self.types[value] = self._infer(changed)
        self.insert(f"{node.name}.after", after, (value,), module=node.module, output=node.output)
        return changed

    def fuse(self, maker: Node, reader: Node, op: Op, inputs: Sequence[str] | None = None) -> Node:
        """Let a private maker do its only reader's work: it keeps its name and makes the reader's value."""
        self._unindex(maker)
        self._unindex(reader)
        del self._nodes[reader.name], self.types[maker.output]
        return self._index(
            replace(maker, op=op, inputs=maker.inputs if inputs is None else tuple(inputs), output=reader.output)
        )

    def insert(self, name: str, op: Op, inputs: Sequence[str], *, module: str, output: str | None = None) -> str:
        """Add a node under a fresh name derived from ``name``; returns the name of its value.

        The value is called ``output`` where given (a name that no node makes any more), else like the node.
        """
        fresh = self.fresh(name)
        node = Node(name=fresh, op=op, inputs=tuple(inputs), output=output or fresh, module=module)
        self._index(node)
        self.types[node.output] = self._infer(node)
        return node.output

    def remove(self, node: Node) -> None:
        """Drop a node whose value nobody needs any more, or that ``insert`` will make anew."""
        self._unindex(node)
        del self._nodes[node.name]

    def redirect(self, old: str, new: str) -> None:
        """Let all readers of one value read another."""
        for node in self.readers(old):
            self.replace(node, inputs=[new if i == old else i for i in node.inputs])

    def bypass(self, node: Node) -> bool:
        """Drop a node that passes its first input on; False where a graph input or output makes that impossible.

        The name that the user sees outside survives: if the node makes a graph output, its producer makes that value.
        """
        source, value = node.inputs[0], node.output
        if value not in self.outputs:
            self.remove(node)
            self.redirect(value, source)
            return True
        maker = self.maker(source)
        if maker is None or source in self.outputs:
            return False
        self._unindex(node)
        del self._nodes[node.name]
        self._unindex(maker)
        self._index(replace(maker, output=value))
        self.redirect(source, value)
        return True

    def constant(self, hint: str, array: npt.NDArray[np.generic]) -> str:
        """Store an array of reals as float32 under a fresh name derived from ``hint``.

        Raises:
            GraphError: the reals leave float32, or are not numbers.
        """
        name = self.fresh(hint)
        self.constants[name] = self._float32(hint, array)
        return name

    def revise(self, name: str, array: npt.NDArray[np.generic]) -> str:
        """New values for a constant in one place of use: under its own name if that is the only one."""
        if sum(self._readers.get(name, {}).values()) > 1:
            return self.constant(name, array)
        self.constants[name] = self._float32(name, array)
        self._changed = True
        return name

    def fresh(self, hint: str) -> str:
        """A name that nothing in the graph has: the hint itself, or with a number behind it."""
        name, count = hint, 0
        while name in self._taken:
            count += 1
            name = f"{hint}.{count}"
        self._taken.add(name)
        return name

    def finish(self) -> PassResult:
        """The graph in execution order without unread constants; the original one if nothing was changed."""
        if not self._changed:
            return PassResult(self.graph, False)
        nodes = self._sorted()
        made = {*self.graph.inputs, *(n.output for n in nodes)}
        read = {i for n in nodes for i in n.inputs}
        graph = self.graph.evolve(
            nodes=tuple(nodes),
            types={v: t for v, t in self.types.items() if v in made},
            constants={c: a for c, a in self.constants.items() if c in read},
        )
        return PassResult(graph, True)

    # Inside

    def _index(self, node: Node) -> Node:
        self._nodes[node.name] = node
        self._maker[node.output] = node.name
        for value in node.inputs:
            counts = self._readers.setdefault(value, {})
            counts[node.name] = counts.get(node.name, 0) + 1
        return node

    def _unindex(self, node: Node) -> None:
        self._changed = True
        del self._maker[node.output]
        for value in set(node.inputs):
            del self._readers[value][node.name]

    def _infer(self, node: Node) -> FloatType:
        return FloatType(shape=node.op.infer(self.operands(node)))

    def _sorted(self) -> list[Node]:
        """Nodes in their first order, each after what it reads (which differs only around inserted nodes)."""
        order: dict[str, Node] = {}
        for first in self._nodes.values():
            stack = [first]
            while stack:
                node = stack[-1]
                makers = (self.maker(i) for i in node.inputs)
                missing = [m for m in makers if m is not None and m.name not in order]
                if missing and node.name not in order:
                    stack.extend(reversed(missing))
                else:
                    order[stack.pop().name] = node
        return list(order.values())

    def _float32(self, name: str, array: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        with np.errstate(over="ignore"):
            result = array.astype(np.float32)
        if not np.all(np.isfinite(result)):
            raise GraphError(
                f"folding constants into {name!r} gives values that are not finite in float32",
                "folded constants stay finite",
                "check the variances and scales of the network",
                f"graph {self.graph.name!r}",
            )
        return np.ascontiguousarray(result)
