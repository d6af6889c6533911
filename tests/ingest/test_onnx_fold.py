from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from subbyte.errors import IngestError
from subbyte.ingest.onnx_file import load_onnx
from subbyte.ingest.onnx_fold import WORLDS, Static, batch_entries, constant, shape_of
from tests.ingest.onnx_models import OPSETS, agrees, model, node, saved

SHAPE = ("n", 4, 3, 6)
NUMBERS = {f"{i}": np.array([i]) for i in (-1, 0, 1, 2, 3, 4, 18)} | {"first": np.array(0), "second": np.array(1)}


def unsqueeze(name: str, output: str, opset: int) -> onnx.NodeProto:
    return node("Unsqueeze", [name], output, axes=[0]) if opset < 13 else node("Unsqueeze", [name, "0"], output)


def chain_of_gathers(opset: int) -> list[onnx.NodeProto]:
    """What torch writes for x.view(x.size(0), -1)."""
    return [
        node("Shape", ["x"], "shape"),
        node("Gather", ["shape", "first"], "n", axis=0),
        unsqueeze("n", "rows", opset),
        node("Concat", ["rows", "-1"], "target", axis=0),
        node("Reshape", ["x", "target"]),
    ]


def chain_with_arithmetic(opset: int) -> list[onnx.NodeProto]:
    """x.view(x.size(0), x.size(1) // 2, -1) with casts in between."""
    return [
        node("Shape", ["x"], "shape"),
        node("Cast", ["shape"], "int32", to=TensorProto.INT32),
        node("Cast", ["int32"], "sizes", to=TensorProto.INT64),
        node("Slice", ["sizes", "0", "1"], "rows"),
        node("Slice", ["sizes", "1", "2"], "channels"),
        node("Div", ["channels", "2"], "half"),
        node("Concat", ["rows", "half", "-1"], "target", axis=0),
        node("Reshape", ["x", "target"]),
    ]


def chain_with_conditions(opset: int) -> list[onnx.NodeProto]:
    """Expand's way of writing -1: where(shape == -1, ones, shape)."""
    return [
        node("Shape", ["x"], "shape"),
        node("Slice", ["shape", "0", "2"], "head"),
        node("Concat", ["head", "-1"], "wanted", axis=0),
        node("Shape", ["wanted"], "length"),
        node("ConstantOfShape", ["length"], "ones", value=numpy_helper.from_array(np.array([18]))),
        node("Equal", ["wanted", "-1"], "free"),
        node("Where", ["free", "ones", "wanted"], "target"),
        node("Reshape", ["x", "target"]),
    ]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("chain", [chain_of_gathers, chain_with_arithmetic, chain_with_conditions])
@pytest.mark.parametrize("batch", ["n", 1, 3])
def test_shape_arithmetic_folds_away(chain, opset: int, batch, tmp_path: Path) -> None:
    nodes = chain(opset)
    used = {name for n in nodes for name in n.input}
    constants = {k: v for k, v in NUMBERS.items() if k in used}
    graph = agrees(
        model(nodes, (batch, *SHAPE[1:]), constants=constants, opset=opset),
        tmp_path,
        batch=3 if batch == "n" else batch,
    )
    assert [n.op.name for n in graph] == ["reshape"]
    assert not graph.constants


def test_shapes_of_inner_values_and_parts_of_shapes(tmp_path: Path) -> None:
    nodes = [
        node("MaxPool", ["x"], "pool", kernel_shape=[1, 2], strides=[1, 2]),
        node("Shape", ["pool"], "head", start=0, end=-2),
        node("Shape", ["pool"], "rows", start=-2, end=-1),
        node("Shape", ["pool"], "columns", start=3),
        node("Concat", ["head", "columns", "rows"], "target", axis=0),
        node("Reshape", ["pool", "target"]),
    ]
    agrees(model(nodes, SHAPE), tmp_path)


def test_zeros_made_from_the_batch_broadcast(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], "shape"),
        node("ConstantOfShape", ["shape"], "zeros", value=numpy_helper.from_array(np.float32([0.5]))),
        node("Add", ["x", "zeros"]),
    ]
    graph = agrees(model(nodes, SHAPE), tmp_path)
    assert graph.constants["zeros"].shape == (4, 3, 6)


def test_constants_of_every_form(tmp_path: Path) -> None:
    nodes = [
        node("Constant", [], "a", value=numpy_helper.from_array(np.float32([1, 2, 3, 4]))),
        node("Constant", [], "b", value_float=0.5),
        node("Constant", [], "c", value_floats=[0.5, 1, 2, 3]),
        node("Constant", [], "axis", value_ints=[1]),
        node("Mul", ["a", "b"], "ab"),
        node("Add", ["x", "ab"], "sum"),
        node("Mul", ["sum", "c"], "scaled"),
        node("Unsqueeze", ["scaled", "axis"]),
    ]
    graph = agrees(model(nodes), tmp_path)
    assert sorted(graph.constants) == ["ab", "c"]


def test_a_weight_computed_from_constants_is_folded(tmp_path: Path) -> None:
    nodes = [node("Identity", ["w"], "shared"), node("Transpose", ["shared"], "t", perm=[1, 0])]
    nodes += [node("Sqrt", ["t"], "root"), node("MatMul", ["x", "root"])]
    graph = agrees(model(nodes, constants={"w": np.arange(12, dtype=np.float32).reshape(3, 4)}), tmp_path)
    assert sorted(graph.constants) == ["root"]


def test_dead_nodes_and_unused_constants_stay_behind(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"]), node("Erf", ["x"], "unused"), node("MatMul", ["x", "w"], "also_unused")]
    graph = agrees(model(nodes, constants={"w": np.ones((4, 4), np.float32)}), tmp_path)
    assert [n.output for n in graph] == ["y"]
    assert not graph.constants


@pytest.mark.parametrize(
    ("kind", "other", "message"),
    [
        ("Mul", "2", "a size is a number or the batch itself"),
        ("Add", "1", "a size is a number or the batch itself"),
        ("Mod", "2", "a size is a number or the batch itself"),
    ],
)
def test_sizes_that_depend_on_the_batch_otherwise_are_refused(kind, other, message, tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], "shape"),
        node("Slice", ["shape", "0", "1"], "rows"),
        node(kind, ["rows", other], "more"),
        node("Concat", ["more", "-1"], "target", axis=0),
        node("Reshape", ["x", "target"]),
    ]
    used = {name for n in nodes for name in n.input}
    constants = {k: v for k, v in NUMBERS.items() if k in used}
    if kind == "Mod":
        constants["2"] = np.array([11])  # 61 and 127 leave 6 both: a number like any other
        message = "the first axis of a reshape is the batch"
    with pytest.raises(IngestError, match=message):
        load_onnx(saved(model(nodes, SHAPE, constants=constants), tmp_path))


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("ConstantOfShape", ["s"], "c")], {"s": np.array([2**20, 2**20])}),
        ([node("Expand", ["one", "s"], "c")], {"one": 1, "s": np.array([2**31, 2])}),
        ([node("Tile", ["one", "s"], "c")], {"one": [1], "s": np.array([2**40])}),
        ([node("Range", ["one", "s", "step"], "c")], {"one": 1, "s": np.float32(1e30), "step": 1}),
        ([node("Range", ["one", "s", "step"], "c")], {"one": 1, "s": 2, "step": 0}),
        ([node("Pad", ["one", "s"], "c")], {"one": [1], "s": np.array([2**40, 2**40])}),
        (
            [node("Add", ["a", "b"], "c")],
            {"a": np.zeros((2**14, 1), np.float32), "b": np.zeros((1, 2**14), np.float32)},
        ),
        ([node("Gather", ["one", "s"], "c")], {"one": [1], "s": np.array([7])}),
        ([node("Reshape", ["one", "s"], "c")], {"one": [1], "s": np.array([7])}),
    ],
)
def test_constants_that_cannot_be_computed_or_grow_beyond_bounds(nodes, constants, tmp_path: Path) -> None:
    proto = model([*nodes, node("Add", ["x", "c"])], constants=constants)
    with pytest.raises(IngestError, match=f"{nodes[0].op_type} on constants cannot be computed") as caught:
        load_onnx(saved(proto, tmp_path))
    assert "node_of_c" in caught.value.place


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    body = [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Add", ["a", "b"], ["c"])]
    function = helper.make_function("mine", "block", ["a"], ["c"], body, [helper.make_opsetid("", 17)])
    proto = model([helper.make_node("block", ["x"], ["y"], domain="mine")])
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    assert [n.op.name for n in agrees(proto, tmp_path)] == ["rectify", "add"]


def test_worlds() -> None:
    shape = Static("s", shape_of((None, 3, 5)))
    assert batch_entries(shape) == (None, 3, 5)
    assert not shape.fixed
    assert batch_entries(constant("c", np.array([4, -1]))) == (4, -1)
    first, second = WORLDS
    assert batch_entries(Static("s", (np.array([first + 1]), np.array([second + 1])))) is None
    assert batch_entries(Static("s", (np.zeros(first, int), np.zeros(second, int)))) is None
    assert batch_entries(constant("c", np.array([1.0]))) is None
