"""Small float graphs for tests of quantization."""

from __future__ import annotations

import numpy as np

from subbyte.graph.ir import FloatType, Graph, Node
from subbyte.graph.ops.op import Op
from subbyte.graph.passes import prepare


class Net:
    """Builds a float graph one operator at a time; values are named after their nodes."""

    def __init__(self, *shape: int, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.types = {"x": FloatType(shape=(None, *shape))}
        self.constants: dict[str, np.ndarray] = {}
        self.nodes: list[Node] = []

    def weight(self, *shape: int, name: str | None = None) -> str:
        """A random float32 constant of unit gain."""
        name = name or f"w{len(self.constants)}"
        gain = np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 4.0
        self.constants[name] = (self.rng.standard_normal(shape) / gain).astype(np.float32)
        return name

    def add(self, name: str, op: Op, *inputs: str) -> str:
        """Append a node whose value has the same name."""
        operands = [self.types.get(i, self.constants.get(i)) for i in inputs]
        self.types[name] = FloatType(shape=op.infer(operands))
        self.nodes.append(Node(name=name, op=op, inputs=inputs, output=name))
        return name

    def graph(self, *outputs: str) -> Graph:
        """The prepared graph."""
        raw = Graph(
            name="net",
            inputs=("x",),
            outputs=outputs,
            types=self.types,
            constants=self.constants,
            nodes=tuple(self.nodes),
        )
        return prepare(raw)
