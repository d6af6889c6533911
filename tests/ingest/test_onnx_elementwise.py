from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from subbyte.errors import IngestError
from subbyte.graph.ops import Rectify
from subbyte.ingest.onnx_file import load_onnx
from tests.ingest.onnx_models import OPSETS, agrees, model, node, saved

SIMPLE = [
    ("Relu", {}, 11),
    ("LeakyRelu", {}, 11),
    ("LeakyRelu", {"alpha": 0.3}, 16),
    ("Sigmoid", {}, 13),
    ("Tanh", {}, 13),
    ("Exp", {}, 13),
    ("Neg", {}, 13),
    ("HardSigmoid", {}, 11),
    ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, 22),
    ("HardSwish", {}, 14),
    ("Gelu", {}, 20),
    ("Gelu", {"approximate": "tanh"}, 20),
    ("Identity", {}, 13),
    ("Dropout", {}, 13),
    ("Dropout", {"ratio": 0.3}, 11),
    ("Softmax", {"axis": 1}, 13),
    ("LogSoftmax", {}, 13),
    ("ArgMax", {"axis": 1}, 13),
    ("ArgMax", {"axis": -1, "keepdims": 0}, 11),
]


@pytest.mark.parametrize(("kind", "attributes", "opset"), SIMPLE)
def test_one_operand(kind: str, attributes: dict[str, object], opset: int, tmp_path: Path) -> None:
    result = TensorProto.INT64 if kind == "ArgMax" else TensorProto.FLOAT
    agrees(model([node(kind, ["x"], **attributes)], ("n", 6, 5), opset=opset, result=result), tmp_path)


def test_swish(tmp_path: Path) -> None:
    graph = load_onnx(saved(model([node("Swish", ["x"])], opset=24), tmp_path))
    assert [(n.op.name, getattr(n.op, "function", "")) for n in graph] == [("unary", "silu")]
    with pytest.raises(IngestError, match="alpha is 2"):
        load_onnx(saved(model([node("Swish", ["x"], alpha=2.0)], opset=24), tmp_path))


@pytest.mark.parametrize("opset", [9, 10])
def test_clip_by_attributes(opset: int, tmp_path: Path) -> None:
    agrees(model([node("Clip", ["x"], min=-1.0, max=2.0)], opset=opset), tmp_path)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(("names", "lo", "hi"), [(["l", "h"], -1, 2), (["", "h"], -math.inf, 2), (["l"], -1, math.inf)])
def test_clip_by_operands(opset: int, names: list[str], lo: float, hi: float, tmp_path: Path) -> None:
    graph = agrees(model([node("Clip", ["x", *names])], constants={"l": -1, "h": 2}, opset=opset), tmp_path)
    assert graph.nodes[0].op == Rectify(lo=lo, hi=hi)


def test_bounds_and_slopes(tmp_path: Path) -> None:
    nodes = [
        node("PRelu", ["x", "slope"], "a"),
        node("Max", ["low", "a"], "b"),
        node("Min", ["b", "high"]),
    ]
    constants = {"slope": np.full((6, 1), 0.25, np.float32), "low": -0.5, "high": [1.5]}
    graph = agrees(model(nodes, ("n", 6, 5), constants=constants), tmp_path)
    assert [n.op for n in graph] == [Rectify(slope=0.25), Rectify(lo=-0.5), Rectify(hi=1.5)]


@given(
    kind=st.sampled_from(["Add", "Sub", "Mul", "Div"]),
    shape=st.sampled_from([(), (1,), (5,), (6, 1), (6, 5), (1, 6, 5), (1, 1, 1), (1, 6, 1)]),
    opset=st.sampled_from(OPSETS),
    swap=st.booleans(),
)
def test_arithmetic_with_a_constant(kind, shape, opset, swap, tmp_path_factory: pytest.TempPathFactory) -> None:
    c = (np.random.default_rng(1).standard_normal(shape) + 4).astype(np.float32)
    names = ["c", "x"] if swap and kind != "Div" else ["x", "c"]
    proto = model([node(kind, names)], ("n", 6, 5), constants={"c": c}, opset=opset)
    agrees(proto, tmp_path_factory.mktemp("constant"))


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul"])
def test_arithmetic_of_two_values(kind: str, tmp_path: Path) -> None:
    nodes = [node("Sigmoid", ["x"], "s"), node(kind, ["x", "s"])]
    agrees(model(nodes, ("n", 6, 5)), tmp_path)
    squeeze = [node("GlobalAveragePool", ["x"], "s"), node(kind, ["s", "x"])]
    agrees(model(squeeze, ("n", 6, 5, 4)), tmp_path)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_sum(count: int, tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], "r"), node("Sum", ["x", "r", "c", "x"][:count])]
    agrees(model(nodes, ("n", 6, 5), constants={"c": np.arange(5, dtype=np.float32)}), tmp_path)


def test_a_constant_with_the_batch_as_its_axis_must_repeat(tmp_path: Path) -> None:
    rows = np.repeat(np.arange(4, dtype=np.float32)[None], 2, axis=0)
    graph = agrees(model([node("Add", ["x", "c"])], (2, 4), constants={"c": rows}), tmp_path, batch=2)
    assert graph.constants["c"].shape == (4,)
    with pytest.raises(IngestError, match="same for every sample"):
        agrees(model([node("Add", ["x", "c"])], (2, 4), constants={"c": rows * [[0], [1]]}), tmp_path)
    with pytest.raises(IngestError, match="same for every sample"):
        agrees(model([node("Add", ["x", "c"])], ("n", 4), constants={"c": rows}), tmp_path)


@pytest.mark.parametrize("axis", [1, 2, 3, -1, -2])
@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [11, 13])
def test_softmax_flattens_before_opset_13(opset: int, kind: str, axis: int, tmp_path: Path) -> None:
    agrees(model([node(kind, ["x"], axis=axis)], ("n", 3, 2, 4), opset=opset), tmp_path)


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
def test_softmax_default_axis_depends_on_the_opset(opset: int, kind: str, tmp_path: Path) -> None:
    graph = agrees(model([node(kind, ["x"])], ("n", 3, 4), opset=opset), tmp_path)
    assert len(graph.nodes) == (3 if opset < 13 else 1)


GELUS = {
    "torch": [
        ("Div", "x", "r2", "a"),
        ("Erf", "a", "b"),
        ("Add", "b", "1", "c"),
        ("Mul", "x", "c", "d"),
        ("Mul", "d", "h", "y"),
    ],
    "half first": [
        ("Mul", "x", "h", "g"),
        ("Mul", "r", "x", "a"),
        ("Erf", "a", "b"),
        ("Add", "1", "b", "c"),
        ("Mul", "c", "g", "y"),
    ],
    "half in the middle": [
        ("Mul", "x", "r", "a"),
        ("Erf", "a", "b"),
        ("Add", "b", "1", "c"),
        ("Div", "c", "2", "d"),
        ("Mul", "d", "x", "y"),
    ],
}


@pytest.mark.parametrize("form", GELUS)
def test_gelu_in_parts_becomes_one_node(form: str, tmp_path: Path) -> None:
    nodes = [node(kind, inputs, output) for kind, *inputs, output in GELUS[form]]
    constants = {"r2": math.sqrt(2), "r": math.sqrt(0.5), "1": 1, "h": 0.5, "2": 2}
    graph = agrees(model(nodes, constants=constants), tmp_path)
    assert [(n.op.name, n.name, n.output) for n in graph] == [("unary", "node_of_y", "y")]


@pytest.mark.parametrize("wrong", ["r2", "1", "h"])
def test_what_only_looks_like_gelu_is_refused(wrong: str, tmp_path: Path) -> None:
    nodes = [node(kind, inputs, output) for kind, *inputs, output in GELUS["torch"]]
    constants = {"r2": math.sqrt(2), "1": 1, "h": 0.5} | {wrong: 1.3}
    with pytest.raises(IngestError, match=r"Erf at node 'node_of_b'"):
        agrees(model(nodes, constants=constants), tmp_path)


def test_swish_and_hard_swish_in_parts_stay_as_written(tmp_path: Path) -> None:
    nodes = [
        node("Sigmoid", ["x"], "s"),
        node("Mul", ["x", "s"], "silu"),
        node("Add", ["silu", "3"], "a"),
        node("Clip", ["a", "0", "6"], "c"),
        node("Mul", ["silu", "c"], "m"),
        node("Div", ["m", "6"]),
    ]
    graph = agrees(model(nodes, constants={"3": 3, "0": 0, "6": 6}), tmp_path)
    assert [n.op.name for n in graph] == ["unary", "mul", "add", "rectify", "mul", "mul"]


def test_argmax_stays_an_integer_through_casts(tmp_path: Path) -> None:
    nodes = [
        node("ArgMax", ["x"], "a", axis=1),
        node("Cast", ["a"], "b", to=TensorProto.INT32),
        node("Squeeze", ["b", "one"], "c"),
        node("Cast", ["c"], to=TensorProto.FLOAT),
    ]
    graph = agrees(model(nodes, constants={"one": np.array([1])}), tmp_path)
    assert [n.op.name for n in graph] == ["argmax", "identity", "reshape", "identity"]


def test_bytes_that_are_cast_to_float_first_come_in(tmp_path: Path) -> None:
    proto = model([node("Cast", ["x"], to=TensorProto.FLOAT)], kind=TensorProto.UINT8)
    assert len(load_onnx(saved(proto, tmp_path)).nodes) == 1
    proto = model([node("Identity", ["x"])], kind=TensorProto.UINT8)
    with pytest.raises(IngestError, match="input 'x' has the type UINT8"):
        load_onnx(saved(proto, tmp_path))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (node("PRelu", ["x", "many"]), "4 different slopes"),
        (node("Clip", ["x", "many"]), "operand 1 of Clip is one number"),
        (node("Clip", ["x", "high", "low"]), "exceeds hi"),
        (node("Max", ["x", "x"]), "Max bounds one value by numbers"),
        (node("Div", ["many", "x"]), "operand 0 is a constant"),
        (node("Div", ["x", "zero"]), "'zero' holds 0"),
        (node("Add", ["x", "deep"]), "a constant is the same for every sample"),
        (node("Cast", ["x"], to=TensorProto.INT64), "a cast to type INT64"),
        (node("Softmax", ["x"], axis=0), "axis behind the batch"),
        (node("Softmax", ["x"], axis=2), "axis 2 of a tensor of 2 axes"),
        (node("ArgMax", ["x"]), "axis behind the batch"),
        (node("ArgMax", ["x"], axis=1, select_last_index=1), "first of equal numbers"),
        (node("Dropout", ["x", "", "yes"]), "training mode"),
        (node("Dropout", ["x"], ["y", "mask"]), "output 'mask' of Dropout is used"),
        (node("Gelu", ["x"], approximate="wild"), "approximate is 'wild'"),
    ],
)
def test_what_is_refused(layer, message: str, tmp_path: Path) -> None:
    constants = {
        "many": [1, 2, 3, 4],
        "zero": 0,
        "low": 0,
        "high": 1,
        "deep": np.ones((2, 1, 4), np.float32),
        "yes": np.array(True),
    }
    with pytest.raises(IngestError, match=message) as caught:
        load_onnx(saved(model([layer], constants=constants, opset=20), tmp_path))
    assert "node_of_y" in caught.value.place
