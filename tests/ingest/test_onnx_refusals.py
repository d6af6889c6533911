from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from subbyte.errors import IngestError
from subbyte.ingest.onnx_file import load_onnx
from tests.ingest.onnx_models import model, node, saved


def refusal(proto: onnx.ModelProto, folder: Path) -> IngestError:
    """The four-part error that a model gets."""
    path = saved(proto, folder)
    with pytest.raises(IngestError) as caught:
        load_onnx(path)
    error = caught.value
    assert all((error.seen, error.rule, error.remedy))
    assert str(path) in error.place
    return error


def test_unsupported_operators_are_listed_together(tmp_path: Path) -> None:
    nodes = [
        node("Erf", ["x"], "a"),
        node("Relu", ["a"], "b"),
        node("LayerNormalization", ["b", "w"], "c"),
        node("Sqrt", ["c"], "d"),
        node("Attention", ["d"], "e"),
        node("Einsum", ["e"], equation="nk->n"),
    ]
    nodes[4].domain = "com.microsoft"
    proto = model(nodes, constants={"w": np.ones(4, np.float32)})
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    error = refusal(proto, tmp_path)
    for kind, name in [("Erf", "a"), ("LayerNormalization", "c"), ("Sqrt", "d"), ("com.microsoft.Attention", "e")]:
        assert f"{kind} at node 'node_of_{name}'" in error.seen
    assert "5 nodes cannot be converted" in error.seen
    assert "Relu" not in error.seen
    assert "Conv, Div" in error.rule
    assert error.place.startswith("node 'node_of_a' (Erf)")


def test_many_unsupported_nodes_are_counted(tmp_path: Path) -> None:
    names = ["x", *(f"v{i}" for i in range(29)), "y"]
    nodes = [node("Erf", [a], b) for a, b in itertools.pairwise(names)]
    assert "and 18 more" in refusal(model(nodes), tmp_path).seen


def test_an_operator_that_onnx_does_not_know_is_unsupported(tmp_path: Path) -> None:
    assert "Foo at node 'node_of_y'" in refusal(model([node("Foo", ["x"])]), tmp_path).seen


def test_subgraphs_are_refused(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])], "branch", [], [helper.make_tensor_value_info("z", 1, ["n", 4])]
    )
    proto = model([node("If", ["c"], then_branch=branch, else_branch=branch)], constants={"c": np.array(True)})
    assert "If at node 'node_of_y'" in refusal(proto, tmp_path).seen


@pytest.mark.parametrize(
    "kind",
    ["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger"],
)
def test_quantized_models_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    error = refusal(model([node("Relu", ["x"], "r"), node(kind, ["r", "s", "z"])]), tmp_path)
    assert "quantized already" in error.seen
    assert f"{kind} (1)" in error.seen
    assert "node_of_y" in error.place


def test_a_dead_quantized_node_is_a_quantized_model_too(tmp_path: Path) -> None:
    proto = model([node("Relu", ["x"]), node("QuantizeLinear", ["x", "s"], "unused")], constants={"s": 1})
    assert "quantized already" in refusal(proto, tmp_path).seen


def test_quantization_annotations_are_refused(tmp_path: Path) -> None:
    proto = model([node("Relu", ["x"])])
    proto.graph.quantization_annotation.add().tensor_name = "x"
    assert "quantization annotations" in refusal(proto, tmp_path).seen


WEIGHTED: dict[str, tuple[tuple[str | int, ...], dict[str, np.ndarray]]] = {
    "Conv": (("n", 2, 5, 5), {"w": np.ones((3, 2, 2, 2), np.float32), "b": np.zeros(3, np.float32)}),
    "Gemm": (("n", 4), {"w": np.ones((4, 3), np.float32), "b": np.zeros(3, np.float32)}),
    "MatMul": (("n", 4), {"w": np.ones((4, 3), np.float32)}),
    "BatchNormalization": (("n", 3), {k: np.ones(3, np.float32) for k in "gbmv"}),
    "Add": (("n", 4), {"c": np.ones(4, np.float32)}),
}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("kind", "which"), [(k, w) for k, (_, c) in WEIGHTED.items() for w in c])
def test_weights_that_are_not_finite(kind: str, which: str, bad: float, tmp_path: Path) -> None:
    shape, constants = WEIGHTED[kind]
    spoilt = {k: v.copy() for k, v in constants.items()}
    spoilt[which].reshape(-1)[-1] = bad
    error = refusal(model([node(kind, ["x", *spoilt])], shape, constants=spoilt), tmp_path)
    where = [d - 1 for d in spoilt[which].shape]
    assert error.seen == f"{which!r} holds {np.float32(bad)} at {where}"
    assert "node_of_y" in error.place


def test_double_weights_are_taken_if_float32_holds_them(tmp_path: Path) -> None:
    layer = node("MatMul", ["x", "w"])
    graph = load_onnx(saved(model([layer], constants={"w": np.full((4, 3), 0.25)}, kind=TensorProto.DOUBLE), tmp_path))
    assert graph.constants["w"].dtype == np.float32  # type: ignore[union-attr]
    for number in (0.1, 1e300):
        proto = model([layer], constants={"w": np.full((4, 3), number)}, kind=TensorProto.DOUBLE)
        assert "'w' is float64 with numbers that float32 does not hold" in refusal(proto, tmp_path).seen


def test_a_half_precision_model_is_taken_as_float32(tmp_path: Path) -> None:
    proto = model(
        [node("MatMul", ["x", "w"])], constants={"w": np.full((4, 3), 0.1, np.float16)}, kind=TensorProto.FLOAT16
    )
    assert load_onnx(saved(proto, tmp_path)).constants["w"].dtype == np.float32  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (model([node("Relu", ["x"])], outputs=()), "no outputs"),
        (model([node("Relu", ["x"])], outputs=("y", "y")), "outputs are ['y', 'y']"),
        (model([node("Relu", ["x"])], ("n", 3, "height", 4)), "axis 2 of input 'x' is 'height'"),
        (model([node("Relu", ["x"])], ("n", 3, None)), "axis 2 of input 'x' is 'unknown'"),
        (model([node("Relu", ["x"])], ("n", -3)), "axis 1 of input 'x' is -3"),
        (model([node("Relu", ["x"])], ()), "input 'x' has no shape"),
        (model([node("Relu", ["x"])], kind=TensorProto.INT64), "input 'x' has the type INT64"),
        (model([node("Relu", ["x"])], kind=TensorProto.STRING), "input 'x' has the type STRING"),
        (model([node("Relu", ["c"])], constants={"c": 1}), "Relu"),
        (model([node("Neg", ["c"])], constants={"c": 1}), "output 'y' does not depend on an input"),
        (model([node("Relu", ["x"])], outputs=("c",), constants={"c": 1}), "output 'c' does not depend on an input"),
        (model([node("Relu", ["x"])], outputs=("nothing",)), "Graph output 'nothing' is not an output"),
        (model([node("Relu", ["x"], "a"), node("Tanh", ["x"], "a"), node("Relu", ["a"])]), "'a' is given 2 times"),
        (model([node("Relu", ["x"], "x"), node("Relu", ["x"])]), "'x' is given 2 times"),
        (model([node("Relu", ["x"])], constants={"y": 1}), "'y' is given 2 times"),
        (model([node("Relu", ["ghost"])]), "no valid ONNX model"),
        (model([node("Relu", ["b"]), node("Relu", ["x"], "b")]), "no valid ONNX model"),
        (model([node("Relu", ["x", "x"])]), "no valid ONNX model"),
        (model([node("Relu", ["x"], wild=1)]), "no valid ONNX model"),
        (model([node("LeakyRelu", ["x"], alpha=3)]), "no valid ONNX model"),
        (model([node("Conv", ["x", "w"])], ("n", 2, 5), constants={"w": np.ones((1, 1, 2))}), "2 channels in 1 groups"),
        (model([node("Conv", ["x", "w"])], ("n", 2, 5), constants={"w": np.ones((1, 2))}), "one or two spatial axes"),
        (model([node("Conv", ["x", "x"])], ("n", 2, 5)), "operand 1 is computed from the inputs"),
        (model([node("MatMul", ["x", "x"])], ("n", 4, 4)), "operand 1 is computed from the inputs"),
        (model([node("MatMul", ["w", "x"])], constants={"w": np.ones((4, 4))}), "operand 0 is a constant"),
        (model([node("MatMul", ["x", "w"])], constants={"w": np.ones((3, 4))}), "meets weights [4, 3]"),
        (model([node("MatMul", ["x", "w"])], constants={"w": np.ones((2, 4, 4))}), "times [2, 4, 4]"),
        (model([node("Gemm", ["x", "w"], transA=1)], constants={"w": np.ones((4, 4))}), "transA=1"),
        (model([node("Gemm", ["x", "w", "b"])], constants={"w": np.ones((4, 3)), "b": [1, 2]}), "C [2] for 3 columns"),
    ],
)  # fmt: skip
def test_models_that_are_refused(proto: onnx.ModelProto, message: str, tmp_path: Path) -> None:
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.DOUBLE:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    assert message in str(refusal(proto, tmp_path))


def test_batch_norm_in_training_mode(tmp_path: Path) -> None:
    constants = {k: np.ones(3, np.float32) for k in "gbmv"}
    layer = node("BatchNormalization", ["x", *constants], ["y", "mean", "var"], training_mode=1)
    assert "training mode" in refusal(model([layer], ("n", 3), constants=constants), tmp_path).seen
    constants["v"] = np.array([1, -1, 0], np.float32)
    error = refusal(model([node("BatchNormalization", ["x", *"gbmv"])], ("n", 3), constants=constants), tmp_path)
    assert "variance 'v'" in error.seen


def test_inputs_of_different_fixed_batches(tmp_path: Path) -> None:
    proto = model([node("Add", ["x", "z"])], (2, 4))
    proto.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [3, 4]))
    assert "leading lengths [2, 3]" in refusal(proto, tmp_path).seen


def test_sparse_weights(tmp_path: Path) -> None:
    proto = model([node("Relu", ["x"])])
    values = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    index = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, index, [4]))
    assert "sparse initializers" in refusal(proto, tmp_path).seen


def test_tensors_whose_data_do_not_fit_their_shape(tmp_path: Path) -> None:
    proto = model([node("Add", ["x", "c"])], constants={"c": np.ones(4, np.float32)})
    for dims in ([5], [3], [2**62, 4], [-4]):
        proto.graph.initializer[0].dims[:] = dims
        assert "name: c" in refusal(proto, tmp_path).seen.replace("tensor 'c'", "name: c")


@pytest.mark.parametrize("version", [7, 8, 99])
def test_opsets_out_of_range(version: int, tmp_path: Path) -> None:
    proto = model([node("Relu", ["x"])], opset=17)
    proto.opset_import[0].version = version
    assert f"opset {version}" in refusal(proto, tmp_path).seen


def test_names_are_the_files_own_even_where_they_are_strange(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], "a/b:0;ü"), node("Relu", ["a/b:0;ü"])]
    nodes[0].name = nodes[1].name = "same"
    graph = load_onnx(saved(model(nodes), tmp_path, "net.v2.onnx"))
    assert graph.name == "net.v2"
    assert [(n.name, n.output, n.module) for n in graph] == [("same", "a/b:0;ü", "same"), ("same_1", "y", "same")]


def test_nodes_without_names_go_by_their_results(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])]
    assert [n.name for n in load_onnx(saved(model(nodes), tmp_path))] == ["h", "y"]
