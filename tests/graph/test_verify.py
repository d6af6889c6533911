"""Every invariant of a graph has a graph that breaks it and a four-part error that says where."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from subbyte.errors import GraphError, LoweringError
from subbyte.formats.format import Format
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import BATCH, FloatType, Graph, IntType, Node
from subbyte.graph.ops.conv import IntConv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.verify import verify
from tests.graph.networks import Net

UINT8 = Format(name="uint8", table=range(256))
INT8 = Format(name="int8", table=range(-128, 128))
INT16 = Format(name="int16", table=range(-32768, 32768))


def floats() -> Graph:
    net = Net()
    y = net.relu(net.linear(net.input("x", 4), 3, name="fc"), name="act")
    return net.graph(y)


def integers(**changes: object) -> Graph:
    """One convolution of a 2x2x1 image with one weight."""
    types = {
        "x": IntType(shape=(BATCH, 2, 2, 1), format=UINT8, scale=0.5, zero_point=3),
        "y": IntType(shape=(BATCH, 2, 2, 1), format=UINT8, scale=0.25, zero_point=0),
    }
    weight = QTensor(
        codes=np.full((1, 1, 1, 1), 200, dtype=np.uint8),
        format=INT8,
        scale=np.array([0.5], dtype=np.float32),
        zero_point=np.array([0], dtype=np.int32),
    )
    constants = {
        "w": weight,
        "b": np.array([5], dtype=np.int32),
        "m": np.array([2**30], dtype=np.int32),
        "n": np.array([31], dtype=np.int32),
    }
    op = IntConv(stride=(1, 1), dilation=(1, 1), padding=(0, 0, 0, 0), groups=1, lo=0, hi=255)
    node = Node(name="conv", op=op, inputs=("x", "w", "b", "m", "n"), output="y", module="block.conv")
    graph = Graph(name="net", inputs=("x",), outputs=("y",), types=types, constants=constants, nodes=(node,))
    return graph.evolve(**changes)


def refused(graph: Graph, *words: str, dialect: str = "float", error: type[Exception] = GraphError) -> None:
    with pytest.raises(error) as caught:
        verify(graph, dialect)  # type: ignore[arg-type]
    for part in ("seen", "rule", "remedy", "place"):
        assert getattr(caught.value, part)
    for word in words:
        assert word in str(caught.value)


def typed(graph: Graph, name: str, **changes: object) -> Mapping[str, object]:
    old = graph.types[name]
    fields = {f: getattr(old, f) for f in type(old).__dataclass_fields__} | changes
    return {**graph.types, name: type(old)(**fields)}


def test_good_graphs_pass() -> None:
    verify(floats(), "float")
    verify(integers(), "integer")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, ["non-empty"]),
        ({"output": ""}, ["non-empty"]),
        ({"name": "fc"}, ["'fc'", "2 nodes"]),
        ({"output": "x"}, ["'x'"]),
        ({"output": "fc.weight"}, ["'fc.weight'"]),
    ],
)
def test_names(changes: dict[str, str], words: list[str]) -> None:
    graph = floats()
    last = graph.nodes[-1]
    fields = {"name": last.name, "op": last.op, "inputs": last.inputs, "output": last.output} | changes
    refused(graph.evolve(nodes=(*graph.nodes[:-1], Node(**fields))), *words)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [("inputs", ()), ("outputs", ()), ("outputs", ("act", "act")), ("inputs", ("x", "x")), ("outputs", ("nowhere",))],
)
def test_interface(field: str, value: tuple[str, ...]) -> None:
    refused(floats().evolve(**{field: value}))


def test_an_output_that_is_a_constant_is_refused() -> None:
    refused(floats().evolve(outputs=("fc.weight",)), "made by no node")


def test_types_cover_the_values() -> None:
    graph = floats()
    refused(graph.evolve(types={k: v for k, v in graph.types.items() if k != "fc"}), "'fc'", "no type")
    refused(graph.evolve(types={**graph.types, "ghost": FloatType(shape=(BATCH, 1))}), "'ghost'")


@pytest.mark.parametrize(
    "shape", [(2, 4), (), (4,), (BATCH, 0), (BATCH, -1), (BATCH, True), (BATCH, 4.0), (BATCH, None)]
)
def test_shapes(shape: tuple) -> None:
    graph = floats()
    refused(graph.evolve(types=typed(graph, "x", shape=shape)), "'x'", "BATCH")


def test_shape_that_is_no_tuple_is_refused() -> None:
    graph = floats()
    refused(graph.evolve(types=typed(graph, "x", shape=[BATCH, 4])), "'x'", "BATCH")


def test_dialects_are_not_mixed() -> None:
    refused(floats(), "FloatType", dialect="integer")
    refused(integers(), "IntType")
    graph = floats()
    node = Node(name="act", op=integers().nodes[0].op, inputs=("fc",), output="act")
    refused(graph.evolve(nodes=(graph.nodes[0], node)), "integer dialect", "'act'")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_constants_are_finite(value: float) -> None:
    graph = floats()
    weight = np.array(graph.constants["fc.weight"])
    weight[1, 2] = value
    refused(graph.evolve(constants={**graph.constants, "fc.weight": weight}), "1 values", "'fc.weight'")


@pytest.mark.parametrize(
    "constant", [np.zeros((3, 4)), np.zeros((0, 4), np.float32), [[1.0]], integers().constants["w"]]
)
def test_constants_are_float32_arrays(constant: object) -> None:
    graph = floats()
    refused(graph.evolve(constants={**graph.constants, "fc.weight": constant}), "'fc.weight'")


def test_nodes_are_in_order() -> None:
    graph = floats()
    refused(graph.evolve(nodes=graph.nodes[::-1]), "later node", "'act'", "module.act")
    lost = Node(name="act", op=Rectify(), inputs=("lost",), output="act")
    refused(graph.evolve(nodes=(graph.nodes[0], lost)), "'lost' is not defined")
    none = Node(name="act", op=Rectify(), inputs=(), output="act")
    refused(graph.evolve(nodes=(graph.nodes[0], none)))


def test_declared_shape_is_the_operators() -> None:
    graph = floats()
    refused(graph.evolve(types=typed(graph, "act", shape=(BATCH, 5))), "[N,5]", "[N,3]", "'act'", "module.act")


def test_operator_errors_name_node_and_module() -> None:
    graph = floats()
    node = Node(name="fc", op=Linear(), inputs=("x",), output="fc", module="head.fc")
    refused(graph.evolve(nodes=(node, graph.nodes[1])), "'fc' (linear)", "head.fc")
    node = Node(name="fc", op=Reshape(shape=(BATCH, 5)), inputs=("x",), output="fc", module="head.fc")
    refused(graph.evolve(nodes=(node, graph.nodes[1])), "'fc' (reshape)", "head.fc")


def test_nodes_of_constants_are_refused() -> None:
    net = Net()
    graph = net.graph(net.add(net.input("x", 3), net.number(3), name="y"))
    made = Node(name="made", op=Rectify(), inputs=("constant0",), output="made")
    types = {**graph.types, "made": FloatType(shape=(BATCH, 3))}
    refused(graph.evolve(nodes=(made, *graph.nodes), types=types), "'made'", "only the constants")


@pytest.mark.parametrize("table", [(-40_000, 1, 40_000), range(32_760, 32_769), range(-32_769, -32_760)])
def test_formats_beyond_16_bits(table) -> None:
    far = Format(name="far", table=table)
    zero = 0 if far.storage == "int16" else 1
    graph = integers()
    refused(graph.evolve(types=typed(graph, "x", format=far, zero_point=zero)), "far", "'x'", dialect="integer")


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), 1, 0.1, 1e-60, 1e300])
def test_scales(scale: float) -> None:
    graph = integers()
    refused(graph.evolve(types=typed(graph, "x", scale=scale)), "scale", "'x'", dialect="integer")


@pytest.mark.parametrize("zero", [-1, 256, 3.0, True])
def test_zero_points(zero: object) -> None:
    graph = integers()
    refused(graph.evolve(types=typed(graph, "x", zero_point=zero)), "zero point", "'x'", dialect="integer")


def test_quantized_tensors_keep_their_invariants() -> None:
    graph = integers()
    weight = graph.constants["w"]
    assert isinstance(weight, QTensor)
    bad = QTensor(codes=weight.codes, format=weight.format, scale=-weight.scale, zero_point=weight.zero_point)
    refused(graph.evolve(constants={**graph.constants, "w": bad}), "'w'", dialect="integer")


def test_float_constants_do_not_enter_integer_graphs() -> None:
    graph = integers()
    bad = {**graph.constants, "b": np.array([5], dtype=np.float32)}
    refused(graph.evolve(constants=bad), "float32", "'b'", dialect="integer")


def test_accumulators_are_proved_from_the_actual_weights() -> None:
    graph = integers()
    largest, smallest = 2**31 - 1 - 72 * (255 - 3), -(2**31) + 1 + 72 * 3  # the weight is 200 - 128
    for bias, fits in ((largest, True), (largest + 1, False), (smallest, True), (smallest - 1, False)):
        changed = graph.evolve(constants={**graph.constants, "b": np.array([bias], dtype=np.int32)})
        if fits:
            verify(changed, "integer")
        else:
            refused(changed, "'conv'", "block.conv", dialect="integer", error=LoweringError)


def test_bounds_of_an_operator_stay_in_the_results_format() -> None:
    graph = integers()
    narrow = Format(name="uint4", table=range(16))
    refused(graph.evolve(types=typed(graph, "y", format=narrow)), "hi", "block.conv", dialect="integer")
