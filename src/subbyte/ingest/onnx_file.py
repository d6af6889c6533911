"""An ONNX file as a graph: read, survey, then one walk that folds what is known and converts the rest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from subbyte.errors import GraphError, IngestError
from subbyte.graph.ir import BATCH, Graph, Shape
from subbyte.graph.verify import verify
from subbyte.ingest.onnx_call import Activation, Builder, Call, Operand, Table
from subbyte.ingest.onnx_elementwise import ELEMENTWISE
from subbyte.ingest.onnx_fold import Array, Static, constant, evaluate, shape_of
from subbyte.ingest.onnx_gelu import merge_gelu
from subbyte.ingest.onnx_layers import LAYERS
from subbyte.ingest.onnx_movement import MOVEMENT
from subbyte.ingest.onnx_pools import POOLS
from subbyte.ingest.onnx_read import check_model, opset, read_model
from subbyte.ingest.onnx_resize import RESIZE
from subbyte.ingest.onnx_survey import (
    check_names,
    live_nodes,
    name_of,
    place_of,
    refuse_quantized,
    refuse_unsupported,
)

if TYPE_CHECKING:
    import onnx

CONVERTERS = Table({**LAYERS, **POOLS, **ELEMENTWISE, **MOVEMENT, **RESIZE})
"""Every operator that may read activations."""


def load_onnx(path: str | Path) -> Graph:
    """The network of an ONNX file as a verified float graph, channels first, under the file's own names.

    Opset 9 to the newest that onnx knows. The leading axis of every input is the batch, also where the file gives it a
    length. Half-precision models are taken as float32.

    Args:
        path: of the file; external data must lie inside its folder.

    Raises:
        IngestError: the file is missing or damaged, already quantized, or holds something without a counterpart.
    """
    path = Path(path)
    model = read_model(path)
    refuse_quantized(model.graph, path)
    check_names(model.graph, path)
    return _Importer(model, path).run()


class _Importer:
    """Turns one model into a graph."""

    def __init__(self, model: onnx.ModelProto, path: Path) -> None:
        self.model, self.graph, self.path = model, model.graph, path
        self.opset = opset(model, path)
        names = {name for node in self.graph.node for name in (*node.input, *node.output)}
        names.update(i.name for i in (*self.graph.initializer, *self.graph.input))
        self.builder = Builder(fixed_batch=None, reserved=names)

    def run(self) -> Graph:
        self._initializers()
        nodes = merge_gelu(self.graph.node, self._numbers())
        outputs = [o.name for o in self.graph.output]
        nodes = live_nodes(nodes, outputs)
        statics = {*self.builder.operands}
        refuse_unsupported(nodes, statics, CONVERTERS, self.path)
        inputs = self._inputs(nodes)
        check_model(self.model, self.path)  # after the refusals above, which say more about the same fault
        for node in nodes:
            self._step(node)
        self._check_outputs(outputs)
        builder = self.builder
        graph = Graph(
            name=self.path.stem,
            inputs=inputs,
            outputs=tuple(outputs),
            types=builder.types,
            constants=builder.constants,
            nodes=tuple(builder.nodes),
        )
        try:
            verify(graph, "float")
        except GraphError as error:
            raise IngestError(error.seen, error.rule, error.remedy, f"{error.place}, file {self.path}") from error
        return graph

    # ------------------------------------------------------------------ what is given

    def _initializers(self) -> None:
        if self.graph.sparse_initializer:
            raise self._fail("the model has sparse initializers", "weights are dense", "store them as dense tensors")
        for tensor in self.graph.initializer:
            self.builder.operands[tensor.name] = constant(tensor.name, self._array(tensor, tensor.name))

    def _array(self, tensor: onnx.TensorProto, name: str) -> Array:
        from onnx import numpy_helper

        try:
            return numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
            what = f"tensor {name!r} does not hold what its shape {list(tensor.dims)[:8]} and type promise"
            raise self._fail(what, "a tensor's data fit its shape", "export or download the model again") from error

    def _numbers(self) -> dict[str, float]:
        """Constants of one element, for the search of formulas."""
        numbers = {}
        for node in self.graph.node:
            for attribute in node.attribute if node.op_type == "Constant" else ():
                if attribute.name == "value":
                    array = self._array(attribute.t, name_of(node))
                    if array.size == 1 and array.dtype.kind == "f":
                        numbers[node.output[0]] = float(array.reshape(-1)[0])
        for name, operand in self.builder.operands.items():
            if isinstance(operand, Static) and operand.array.size == 1 and operand.array.dtype.kind == "f":
                numbers[name] = float(operand.array.reshape(-1)[0])
        return numbers

    def _inputs(self, nodes: list[onnx.NodeProto]) -> tuple[str, ...]:
        """Declare the inputs; their names in order."""
        inputs = [i for i in self.graph.input if i.name not in self.builder.operands]
        lengths = {self._leading(i) for i in inputs} - {None}
        if len(lengths) > 1:
            seen = f"inputs have the leading lengths {sorted(n for n in lengths if n is not None)}"
            raise self._fail(seen, "all inputs have the batch first, of one length", "export with one batch axis")
        self.builder.fixed_batch = next(iter(lengths), None)
        for given in inputs:
            self._check_type(given, nodes)
            self.builder.add_value(given.name, self._shape(given))
        return tuple(i.name for i in inputs)

    def _leading(self, given: onnx.ValueInfoProto) -> int | None:
        dims = given.type.tensor_type.shape.dim
        return dims[0].dim_value if len(dims) and dims[0].HasField("dim_value") and dims[0].dim_value > 0 else None

    def _check_type(self, given: onnx.ValueInfoProto, nodes: list[onnx.NodeProto]) -> None:
        """Inputs are reals, or bytes that are cast to reals before anything else."""
        import onnx

        kind = given.type.tensor_type.elem_type
        known = onnx.TensorProto
        if kind in (known.FLOAT, known.FLOAT16, known.BFLOAT16, known.DOUBLE):
            return
        readers = {n.op_type for n in nodes if given.name in n.input}
        if kind in (known.UINT8, known.INT8) and readers == {"Cast"}:
            return
        name = known.DataType.Name(kind) if kind in known.DataType.values() else str(kind)
        raise self._fail(
            f"input {given.name!r} has the type {name}",
            "inputs are real numbers (or bytes that are cast to float first)",
            "export the model with float inputs; models of token numbers are not supported",
        )

    def _shape(self, given: onnx.ValueInfoProto) -> Shape:
        kind = given.type.tensor_type
        if not given.type.HasField("tensor_type") or not kind.HasField("shape") or not len(kind.shape.dim):
            seen = f"input {given.name!r} has no shape"
            raise self._fail(seen, "an input has a shape with the batch first", "export it with its shape")
        for axis, dim in enumerate(kind.shape.dim):
            if axis and not dim.dim_value >= 1:
                seen = f"axis {axis} of input {given.name!r} is {dim.dim_param or dim.dim_value or 'unknown'!r}"
                raise self._fail(
                    seen,
                    "only the batch may be dynamic",
                    "export with fixed sizes, or fix them with onnxruntime.tools.make_dynamic_shape_fixed",
                )
        return (BATCH, *(d.dim_value for d in kind.shape.dim[1:]))

    # ------------------------------------------------------------------ the walk

    def _step(self, node: onnx.NodeProto) -> None:
        known = self.builder.operands
        operands = [known[name] if name else None for name in node.input]
        statics = [o for o in operands if not isinstance(o, Activation)]
        if node.op_type in ("Shape", "Size") and isinstance(operands[0], Activation):
            self._shape_node(node, operands[0])
        elif len(statics) == len(operands):
            self._fold(node, statics)
        else:
            CONVERTERS[node.op_type](self._call(node, operands))

    def _shape_node(self, node: onnx.NodeProto, x: Activation) -> None:
        attributes = _attributes(node)
        first, second = shape_of(x.shape, attributes.get("start"), attributes.get("end"))
        if node.op_type == "Size":
            first, second = first.prod(), second.prod()
        self.builder.operands[node.output[0]] = Static(node.output[0], (first, second))

    def _fold(self, node: onnx.NodeProto, operands: list[Static | None]) -> None:
        try:
            results = evaluate(node, operands, self.opset)
        except Exception as error:
            raise IngestError(
                f"{node.op_type} on constants cannot be computed: {str(error)[:200] or type(error).__name__}",
                "operators on constants and shapes are computed while the file is read",
                "fold constants when exporting, and check the operands",
                place_of(node, self.path),
            ) from error
        for name, worlds in zip(node.output, results, strict=False):
            if name:
                self.builder.operands[name] = Static(name, worlds)

    def _call(self, node: onnx.NodeProto, operands: list[Operand | None]) -> Call:
        return Call(
            builder=self.builder,
            kind=node.op_type,
            name=name_of(node),
            opset=self.opset,
            attributes=_attributes(node),
            operands=tuple(operands),
            outputs=tuple(node.output),
            place=place_of(node, self.path),
        )

    def _check_outputs(self, outputs: list[str]) -> None:
        if not outputs:
            raise self._fail("the model has no outputs", "a network has outputs", "name them when exporting")
        for name in outputs:
            if not isinstance(self.builder.operands.get(name), Activation):
                raise self._fail(
                    f"output {name!r} does not depend on an input",
                    "outputs are computed from the inputs",
                    "remove this output from the model",
                )

    def _fail(self, seen: str, rule: str, remedy: str) -> IngestError:
        return IngestError(seen, rule, remedy, str(self.path))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes by name, strings decoded."""
    from onnx import helper

    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {k: v.decode("utf8", "replace") if isinstance(v, bytes) else v for k, v in found.items()}
