from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subbyte.errors import IngestError
from subbyte.graph.ops import Conv, Linear
from tests.ingest.onnx_models import OPSETS, agrees, model, node


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


@st.composite
def convolutions(draw: st.DrawFn):
    dims = draw(st.sampled_from([1, 2]))
    kernel, size = draw(st.tuples(*[st.integers(1, 4)] * dims)), draw(st.tuples(*[st.integers(7, 11)] * dims))
    groups, per_group = draw(st.sampled_from([(1, 3), (2, 2), (3, 1)]))
    attributes: dict[str, object] = {"strides": list(draw(st.tuples(*[st.integers(1, 3)] * dims)))}
    if draw(st.booleans()):
        attributes["dilations"] = list(draw(st.tuples(*[st.integers(1, 2)] * dims)))
    padding = draw(st.sampled_from(["pads", "SAME_UPPER", "SAME_LOWER", "VALID", "none"]))
    if padding == "pads":
        attributes["pads"] = list(draw(st.tuples(*[st.integers(0, 3)] * (2 * dims))))
    elif padding != "none":
        attributes["auto_pad"] = padding
    if padding.startswith("SAME"):
        attributes.pop("dilations", None)  # onnxruntime does not take both
    if draw(st.booleans()):
        attributes["kernel_shape"] = list(kernel)
    return size, kernel, groups, per_group, attributes, draw(st.booleans())


@given(case=convolutions(), opset=st.sampled_from(OPSETS))
def test_conv(case, opset: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    size, kernel, groups, per_group, attributes, bias = case
    channels = groups * 2
    constants = {"w": weights(channels, per_group, *kernel)} | ({"b": weights(channels)} if bias else {})
    layer = node("Conv", ["x", *constants], group=groups, **attributes)
    proto = model([layer], ("n", groups * per_group, *size), constants=constants, opset=opset)
    graph = agrees(proto, tmp_path_factory.mktemp("conv"))
    assert [(n.name, n.module, n.output) for n in graph] == [("node_of_y", "node_of_y", "y")]
    assert set(graph.constants) == set(constants)


def test_asymmetric_same_padding_puts_the_odd_cell_where_the_rule_says(tmp_path: Path) -> None:
    for rule, padding in (("SAME_UPPER", (0, 1, 1, 1)), ("SAME_LOWER", (1, 1, 0, 1))):
        layer = node("Conv", ["x", "w"], auto_pad=rule, strides=[2, 2])
        graph = agrees(model([layer], (1, 1, 6, 5), constants={"w": weights(1, 1, 3, 3)}), tmp_path, batch=1)
        op = graph.nodes[0].op
        assert isinstance(op, Conv)
        assert op.padding == padding


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("bias", [None, (), (1,), (5,), (1, 5), (1, 1)])
def test_gemm(opset: int, trans: int, bias: tuple[int, ...] | None, tmp_path: Path) -> None:
    constants = {"w": weights(5, 4) if trans else weights(4, 5)}
    if bias is not None:
        constants["b"] = np.asarray(weights(*bias), np.float32)
    layer = node("Gemm", ["x", *constants], transB=trans, alpha=0.3, beta=-1.7)
    graph = agrees(model([layer], constants=constants, opset=opset), tmp_path)
    assert isinstance(graph.nodes[0].op, Linear)
    assert graph.constants["w"].shape == (5, 4)


def test_gemm_bias_of_the_fixed_batch_must_be_the_same_for_every_sample(tmp_path: Path) -> None:
    same = np.repeat(weights(1, 5), 2, axis=0)
    layer = node("Gemm", ["x", "w", "b"])
    agrees(model([layer], (2, 4), constants={"w": weights(4, 5), "b": same}), tmp_path, batch=2)
    with pytest.raises(IngestError, match="same for every sample"):
        agrees(model([layer], (2, 4), constants={"w": weights(4, 5), "b": weights(2, 5)}), tmp_path)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(
    ("shape", "weight"), [(("n", 4), (4, 3)), (("n", 6, 4), (4, 3)), (("n", 6, 4), (1, 4, 3)), (("n", 2, 6, 4), (4,))]
)
def test_matmul(opset: int, shape, weight, tmp_path: Path) -> None:
    agrees(model([node("MatMul", ["x", "w"])], shape, constants={"w": weights(*weight)}, opset=opset), tmp_path)


def test_matmul_and_add_keep_the_bias_as_a_constant(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], "h"), node("Add", ["b", "h"])]
    graph = agrees(model(nodes, constants={"w": weights(4, 3), "b": weights(3)}), tmp_path)
    assert [n.op.name for n in graph] == ["linear", "add"]


def test_a_weight_used_twice_is_stored_once_per_form(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], "a"),
        node("MatMul", ["a", "w"], "b"),
        node("Gemm", ["b", "w"], transB=1),
    ]
    graph = agrees(model(nodes, constants={"w": weights(4, 4)}), tmp_path)
    assert set(graph.constants) == {"w", "w_1"}
    assert np.array_equal(np.asarray(graph.constants["w"]).T, graph.constants["w_1"])


@pytest.mark.parametrize("opset", [9, 11, 14, 15, 23])
@pytest.mark.parametrize("shape", [("n", 3), ("n", 3, 5), ("n", 3, 5, 4)])
def test_batch_norm(opset: int, shape, tmp_path: Path) -> None:
    constants = {"g": weights(3), "b": weights(3) + 1, "m": weights(3) - 2, "v": np.abs(weights(3))}
    layer = node("BatchNormalization", ["x", *constants], epsilon=1e-3)
    graph = agrees(model([layer], shape, constants=constants, opset=opset), tmp_path)
    assert graph.nodes[0].op.name == "batch_norm"


def test_half_precision_weights_convert_exactly(tmp_path: Path) -> None:
    half = weights(4, 3).astype(np.float16)
    nodes = [node("Cast", ["w"], "w32", to=1), node("MatMul", ["x", "w32"])]
    graph = agrees(model(nodes, constants={"w": half}), tmp_path)
    assert np.array_equal(np.asarray(graph.constants["w32"]), half.astype(np.float32).T)
