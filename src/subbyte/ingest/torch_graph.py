"""The walk over an exported program: names, shapes, constants, and every call handed to its converter."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from subbyte.errors import IngestError
from subbyte.graph.ir import BATCH, Constant, FloatType, Graph, Node, Shape, TensorType
from subbyte.graph.ops import Identity, Op
from subbyte.ingest.torch_call import NO_BATCH, Call, Fixed, Parts, Table, Unsupported, Value
from subbyte.ingest.torch_elementwise import ELEMENTWISE
from subbyte.ingest.torch_layers import LAYERS
from subbyte.ingest.torch_movement import MOVEMENT, part
from subbyte.ingest.torch_nodes import (
    base_name,
    changed,
    check_alias,
    is_cast,
    is_tensor,
    leaves,
    live_nodes,
    module_of,
)

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram

CONVERTERS = Table({**LAYERS, **ELEMENTWISE, **MOVEMENT})


@dataclass
class GraphBuilder:
    """A graph that grows; names are made unique, constants that are equal are stored once."""

    types: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def unique(self, name: str) -> str:
        """The name, with a number behind it if it is taken."""
        taken, number = {*self.types, *self.constants}, 1
        result = name
        while result in taken:
            result, number = f"{name}_{number}", number + 1
        return result

    def add_value(self, name: str, shape: Shape) -> Value:
        """Declare a value that no node makes: an input, or what an unsupported operator would give."""
        value = Value(self.unique(name), shape)
        self.types[value.name] = FloatType(shape=shape)
        return value

    def add_node(self, op: Op, inputs: Sequence[str], name: str, module: str) -> Value:
        """Append a node; GraphError if the operator cannot take its operands."""
        shape = op.infer([self.types[i] if i in self.types else self.constants[i] for i in inputs])
        value = self.add_value(name, shape)
        self.nodes.append(Node(name=value.name, op=op, inputs=tuple(inputs), output=value.name, module=module))
        return value

    def add_constant(self, name: str, array: np.ndarray[Any, np.dtype[np.float32]]) -> str:
        """Store a constant; IngestError if it is not finite."""
        if not np.all(np.isfinite(array)):
            where = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
            raise IngestError(
                f"{name!r} holds {array[tuple(where)]} at {where}",
                "weights and constants are finite",
                "retrain or repair the model; look for overflow in training",
                name,
            )
        held = self.constants.get(name)
        if isinstance(held, np.ndarray) and held.shape == array.shape and np.array_equal(held, array):
            return name
        name = self.unique(name)
        self.constants[name] = array
        return name


@dataclass(frozen=True)
class Problem:
    """One call that has no counterpart."""

    target: str
    module: str
    reason: str
    line: str

    def __str__(self) -> str:
        where = f"module {self.module!r}" if self.module else "the model's own forward"
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.target} in {where}{reason}{self.line}"


class Importer:
    """Turns one exported program into a graph.

    Args:
        program: from ``torch.export.export``, not decomposed.
        name: of the graph.
        batch: size of the example's batch, for programs whose batch is not symbolic.
    """

    def __init__(self, program: ExportedProgram, name: str, batch: int) -> None:
        self.program, self.name = program, name
        self.builder = GraphBuilder()
        self.problems: list[Problem] = []
        self.poisoned: set[str] = set()
        self.env: dict[fx.Node, Any] = {}
        self.batch: Any = batch

    def run(self) -> Graph:
        """The graph.

        Raises:
            IngestError: operators without a counterpart (all of them are listed), bad weights, or constant outputs.
        """
        live = live_nodes(self.program.graph)
        inputs: list[str] = []
        outputs: tuple[str, ...] = ()
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, inputs)
            elif node.op == "call_function":
                self._step(node, live)
            elif node.op == "output":
                outputs = self._outputs(node.args[0])
        if self.problems:
            raise self._unsupported()
        builder = self.builder
        used = {i for n in builder.nodes for i in n.inputs}
        return Graph(
            name=self.name,
            inputs=tuple(inputs),
            outputs=outputs,
            types=builder.types,
            constants={k: v for k, v in builder.constants.items() if k in used},
            nodes=tuple(builder.nodes),
        )

    def _placeholder(self, node: fx.Node, inputs: list[str]) -> None:
        import torch

        signature, program = self.program.graph_signature, self.program
        for names in (signature.inputs_to_parameters, signature.inputs_to_buffers):
            if node.name in names:
                name = names[node.name]
                held = program.state_dict.get(name, program.constants.get(name))
                self.env[node] = Fixed(name, held.detach())
                return
        if node.name in signature.inputs_to_lifted_tensor_constants:
            name = signature.inputs_to_lifted_tensor_constants[node.name]
            self.env[node] = Fixed(name, program.constants[name].detach())
            return
        example = node.meta.get("val")
        if not isinstance(example, torch.Tensor):  # a Python number, frozen by the export
            self.env[node] = example
            return
        if not inputs and example.dim():
            self.batch = example.shape[0]
        if not example.is_floating_point() and not all(is_cast(user) for user in node.users):
            raise IngestError(
                f"input {node.name!r} has the dtype {example.dtype}",
                "inputs are real numbers (or bytes that are cast to float first)",
                "pass float32 examples; models of token numbers are not supported",
                self.name,
            )
        shape = self._shape(example)
        if not shape:
            raise self._no_batch(node.name, example)
        value = self.builder.add_value(node.name, shape)
        inputs.append(value.name)
        self.env[node] = value

    def _shape(self, example: Any) -> Shape:
        """Torch's shape with BATCH first; () where the first axis is not the batch, or another one depends on it."""
        sizes = tuple(getattr(example, "shape", ()))
        if not sizes or not bool(sizes[0] == self.batch) or not all(isinstance(s, int) for s in sizes[1:]):
            return ()
        if isinstance(sizes[0], int) and not isinstance(self.batch, int):
            return ()
        return (BATCH, *sizes[1:])

    def _no_batch(self, name: str, example: Any) -> IngestError:
        return IngestError(
            f"input {name!r} has the shape {list(example.shape)}",
            "every input has the batch as its first axis, of one size for all",
            "add a batch axis to the example inputs",
            self.name,
        )

    def _step(self, node: fx.Node, live: set[fx.Node]) -> None:
        if not is_tensor(node.meta.get("val")):
            self.env[node] = node.meta.get("val")  # sizes: torch has worked them out
            return
        try:
            check_alias(node)
            self._check_state(node)
            if node in live:
                self.env[node] = self._result(node)
        except Unsupported as reason:
            if not str(reason) or not self._reads_poison(node):
                self.problems.append(self._problem(node, str(reason)))
            self.env[node] = self._poison(node)

    def _check_state(self, node: fx.Node) -> None:
        """Refuse a call that changes a parameter or buffer of the module: its results would depend on earlier calls."""
        target = changed(node)
        held = None if target is None or target.op != "placeholder" else self.env[target]
        if isinstance(held, Fixed):
            raise Unsupported(f"it changes {held.name!r}; a network keeps no state between calls")

    def _result(self, node: fx.Node) -> Any:
        if node.target is operator.getitem:
            source, index = self._resolve(node.args)
            if isinstance(source, Parts):
                return part(self._call(node, {}, "split"), source, index % len(source.sizes))
            if source[index] is None:
                raise Unsupported("only the first result, the values, can be used")
            return source[index]
        args, kwargs = self._resolve(node.args), self._resolve(node.kwargs)
        if not any(isinstance(a, Value | Parts) for a in leaves([args, kwargs])):
            return _fold(node, args, kwargs)
        schema = getattr(node.target, "_schema", None)
        base = base_name(node.target)
        if schema is None or base not in CONVERTERS:
            raise Unsupported
        named = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
        named.update(zip((a.name for a in schema.arguments), args, strict=False))
        call = self._call(node, {**named, **kwargs}, base)
        result = CONVERTERS[base](call)
        if isinstance(result, Value) and result.shape != call.shape:
            raise Unsupported(f"torch gives the shape {list(call.shape)}" if call.shape else NO_BATCH)
        return result

    def _call(self, node: fx.Node, args: dict[str, Any], base: str) -> Call:
        path, leaf = module_of(node)
        name = path if leaf else ".".join(filter(None, [path, base]))
        example = node.meta["val"]
        return Call(self.builder, args, self._shape(example), example, name, path)

    def _resolve(self, thing: Any) -> Any:
        from torch import fx

        if isinstance(thing, fx.Node):
            return self.env[thing]
        if isinstance(thing, list | tuple):
            return [self._resolve(t) for t in thing]
        if isinstance(thing, Mapping):
            return {k: self._resolve(v) for k, v in thing.items()}
        return thing

    def _poison(self, node: fx.Node) -> Any:
        """A stand-in for the result of an unsupported call, so that the walk finds the others."""
        example = node.meta["val"]
        parts = example if isinstance(example, tuple | list) else [example]
        values = [self.builder.add_value(node.name, self._shape(p) or (BATCH,)) for p in parts]
        self.poisoned.update(v.name for v in values)
        return values if isinstance(example, tuple | list) else values[0]

    def _reads_poison(self, node: fx.Node) -> bool:
        found = leaves([self._resolve(node.args), self._resolve(node.kwargs)])
        return any(isinstance(v, Value) and v.name in self.poisoned for v in found)

    def _problem(self, node: fx.Node, reason: str) -> Problem:
        lines = re.findall(r'File "([^"]+)", line (\d+), in \S+\n\s*(.*)', node.meta.get("stack_trace") or "")
        own = [entry for entry in lines if not re.search(r"[/\\]torch[/\\]", entry[0])] or lines
        line = f" (line {own[-1][1]}: {own[-1][2].strip()[:80]})" if own else ""
        return Problem(str(node.target), module_of(node)[0], reason, line)

    def _unsupported(self) -> IngestError:
        count = len(self.problems)
        listed = "".join(f"\n  {p}" for p in dict.fromkeys(map(str, self.problems)))
        modules = sorted({p.module for p in self.problems if p.module})
        return IngestError(
            f"{count} operator call{'s' if count > 1 else ''} of {self.name} cannot be converted:{listed}",
            f"supported are {', '.join(sorted(n for n in CONVERTERS if not n.startswith('_')))}",
            "replace the layers, or leave that part out of the network",
            f"modules {', '.join(modules)}" if modules else f"{self.name}.forward",
        )

    def _outputs(self, results: Any) -> tuple[str, ...]:
        """Names of the outputs; an input or a value given twice gets a node of its own, as outputs are distinct."""
        names: list[str] = []
        made = {n.output for n in self.builder.nodes} | self.poisoned
        for node in (r for r in results if r is not None):
            value = self.env.get(node) if not isinstance(node, int | float | bool | str) else None
            if not isinstance(value, Value):
                raise IngestError(
                    f"an output of {self.name} does not depend on the input",
                    "outputs are tensors computed from the inputs",
                    "leave the constant out of what forward returns",
                    self.name,
                )
            name = value.name
            if name in names or name not in made:
                name = self.builder.add_node(Identity(), [name], "output", "").name
            names.append(name)
        return tuple(names)


def _fold(node: fx.Node, args: Any, kwargs: Any) -> Any:
    """The result of a call on constants only, computed now."""
    import torch

    target: Any = node.target
    if torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()):
        raise Unsupported("it is random")
    found = list(leaves([args, kwargs]))
    if any(isinstance(leaf, torch.SymInt | torch.SymFloat | torch.SymBool) for leaf in found):
        raise Unsupported("it makes a constant whose shape or value depends on the batch size")
    copy = bool(getattr(getattr(target, "_schema", None), "is_mutable", False))  # the module's own must not change
    sources = [leaf.name for leaf in found if isinstance(leaf, Fixed)]
    with torch.no_grad():
        result = target(*_tensors(args, copy), **_tensors(kwargs, copy))
    name = sources[0] if len(sources) == 1 else f"{module_of(node)[0]}.{node.name}".lstrip(".")
    if isinstance(result, torch.Tensor):
        return Fixed(name, result)
    return [Fixed(f"{name}.{i}", r) for i, r in enumerate(result)]


def _tensors(thing: Any, copy: bool) -> Any:
    if isinstance(thing, Fixed):
        return thing.tensor.clone() if copy else thing.tensor
    if isinstance(thing, list):
        return [_tensors(t, copy) for t in thing]
    if isinstance(thing, dict):
        return {k: _tensors(v, copy) for k, v in thing.items()}
    return thing
