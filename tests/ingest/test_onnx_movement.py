from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subbyte.errors import IngestError
from subbyte.graph.ops import Reshape, Slice
from subbyte.ingest.onnx_file import load_onnx
from tests.ingest.onnx_models import OPSETS, agrees, model, node, saved

LONG = 2**63 - 1
SHAPE = ("n", 4, 3, 6)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    "target", [(0, -1), (-1, 72), (0, 0, -1), (0, 0, 0, 0), (-1, 12, 6), (-1, 4, 3, 6, 1), (0, 72, 1)]
)
@pytest.mark.parametrize("opset", OPSETS)
def test_reshape(target: tuple[int, ...], opset: int, tmp_path: Path) -> None:
    proto = model([node("Reshape", ["x", "s"])], SHAPE, constants={"s": integers(*target)}, opset=opset)
    agrees(proto, tmp_path)


@pytest.mark.parametrize(
    ("batch", "target"), [(1, (1, -1)), (1, (1, 12, 6)), (5, (5, 72)), (5, (-1, 72)), (1, (-1, 72))]
)
def test_reshape_of_a_fixed_batch_is_symbolic(batch: int, target: tuple[int, ...], tmp_path: Path) -> None:
    proto = model([node("Reshape", ["x", "s"])], (batch, *SHAPE[1:]), constants={"s": integers(*target)})
    graph = agrees(proto, tmp_path, batch=batch)
    assert graph.types["x"].shape[0] is None
    op = graph.nodes[0].op
    assert isinstance(op, Reshape)
    assert op.shape[0] is None


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        (SHAPE, (1, -1)),
        (SHAPE, (-1,)),
        (SHAPE, (-1, 36)),
        (SHAPE, (-1, 144)),
        (SHAPE, (4, -1, 18)),
        (SHAPE, (0, -1, 7)),
        (SHAPE, (0, -1, 0, 0, 0)),
        (SHAPE, (-1, -1, 0)),
        ((5, 4), (4, 5)),
        ((5, 4), (20,)),
        ((1, 4), (4,)),
    ],
)
def test_reshapes_that_mix_the_batch_are_refused(shape, target: tuple[int, ...], tmp_path: Path) -> None:
    proto = model([node("Reshape", ["x", "s"])], shape, constants={"s": integers(*target)})
    with pytest.raises(IngestError, match=r"reshape|entry is inferred|checker") as caught:
        load_onnx(saved(proto, tmp_path))
    assert "node_of_y" in caught.value.place


@pytest.mark.parametrize(
    ("shape", "axis"), [(SHAPE, 1), (SHAPE, -3), (("n", 1, 5, 2), 2), (("n", 1), 2), (("n", 4), 1)]
)
def test_flatten(shape, axis: int, tmp_path: Path) -> None:
    agrees(model([node("Flatten", ["x"], axis=axis)], shape), tmp_path)


@pytest.mark.parametrize("axis", [0, 2, 5, -5])
def test_flatten_across_the_batch_is_refused(axis: int, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="axes behind the batch are flattened"):
        load_onnx(saved(model([node("Flatten", ["x"], axis=axis)], SHAPE), tmp_path))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(
    ("kind", "axes"), [("Squeeze", (1, -2)), ("Squeeze", (3,)), ("Unsqueeze", (1,)), ("Unsqueeze", (-1, 2))]
)
def test_squeeze_and_unsqueeze(kind: str, axes: tuple[int, ...], opset: int, tmp_path: Path) -> None:
    shape = ("n", 1, 1, 5) if axes == (1, -2) else ("n", 3, 2, 1)
    if opset < 13:
        proto = model([node(kind, ["x"], axes=list(axes))], shape, opset=opset)
    else:
        proto = model([node(kind, ["x", "a"])], shape, constants={"a": integers(*axes)}, opset=opset)
    agrees(proto, tmp_path)


def test_squeeze_without_axes_would_drop_a_batch_of_one(tmp_path: Path) -> None:
    agrees(model([node("Squeeze", ["x"])], (2, 1, 5)), tmp_path, batch=2)
    for batch in (1, "n"):
        with pytest.raises(IngestError, match="Squeeze without axes"):
            load_onnx(saved(model([node("Squeeze", ["x"])], (batch, 1, 5)), tmp_path))


@pytest.mark.parametrize("perm", [[0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 2, 3]])
def test_transpose(perm: list[int], tmp_path: Path) -> None:
    agrees(model([node("Transpose", ["x"], perm=perm)], SHAPE), tmp_path)


@pytest.mark.parametrize("attributes", [{}, {"perm": [1, 0, 2, 3]}, {"perm": [0, 1, 2]}, {"perm": [0, 1, 1, 3]}])
def test_transposes_of_the_batch_are_refused(attributes: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="perm is"):
        load_onnx(saved(model([node("Transpose", ["x"], **attributes)], SHAPE), tmp_path))


@given(
    start=st.sampled_from([0, 1, 2, -1, -2, -6, -99]),
    end=st.sampled_from([3, 6, 99, LONG, -1, -3]),
    step=st.integers(1, 4),
    axis=st.sampled_from([3, -1]),
    opset=st.sampled_from([10, *OPSETS]),
)
def test_slice(start, end, step, axis, opset, tmp_path_factory: pytest.TempPathFactory) -> None:
    constants = {"s": integers(0, start), "e": integers(LONG, end), "a": integers(0, axis), "t": integers(1, step)}
    proto = model([node("Slice", ["x", *constants])], SHAPE, constants=constants, opset=opset)
    folder = tmp_path_factory.mktemp("slice")
    if len(range(6)[start:end:step]):
        agrees(proto, folder)
    else:
        with pytest.raises(IngestError, match="at least one cell"):
            load_onnx(saved(proto, folder))


def test_slice_by_attributes_and_defaults(tmp_path: Path) -> None:
    agrees(model([node("Slice", ["x"], starts=[1, 0], ends=[3, 2], axes=[1, 3])], SHAPE, opset=9), tmp_path)
    agrees(model([node("Slice", ["x"], starts=[0, 1], ends=[LONG, -1])], SHAPE, opset=9), tmp_path)
    constants = {"s": integers(0, -3), "e": integers(LONG, 4)}
    agrees(model([node("Slice", ["x", "s", "e"])], SHAPE, constants=constants), tmp_path)
    agrees(
        model([node("Slice", ["x", "s", "e"])], (2, 4), constants=constants | {"e": integers(2, 4)}), tmp_path, batch=2
    )


def test_a_backward_slice_of_one_cell_is_a_slice(tmp_path: Path) -> None:
    constants = {"s": integers(4), "e": integers(3), "a": integers(3), "t": integers(-1)}
    graph = agrees(model([node("Slice", ["x", *constants])], SHAPE, constants=constants), tmp_path)
    assert graph.nodes[0].op == Slice(starts=(0, 0, 0, 4), ends=(None, 4, 3, 5), steps=(1, 1, 1, 1))


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (((0,), (1,), (0,), (1,)), "the batch is taken whole"),
        (((1,), (LONG,), (0,), (1,)), "the batch is taken whole"),
        (((0,), (LONG,), (-4,), (2,)), "the batch is taken whole"),
        (((-1,), (-LONG,), (3,), (-1,)), "steps are positive"),
        (((0,), (3,), (3,), (0,)), "the step is not 0"),
        (((0,), (3,), (4,), (1,)), "axis 4 of a tensor of 4 axes"),
        (((0, 1), (3,), (3,), (1,)), "has a start, an end and a step"),
    ],
)
def test_slices_that_are_refused(bounds, message: str, tmp_path: Path) -> None:
    constants = {name: integers(*values) for name, values in zip("seat", bounds, strict=True)}
    with pytest.raises(IngestError, match=message):
        load_onnx(saved(model([node("Slice", ["x", *"seat"])], SHAPE, constants=constants), tmp_path))


@pytest.mark.parametrize("opset", [11, 13, 18, 23])
@pytest.mark.parametrize("sizes", [None, (2, 4), (5, 1)])
def test_split(opset: int, sizes: tuple[int, ...] | None, tmp_path: Path) -> None:
    attributes: dict[str, object] = {"axis": -1}
    names, constants = ["x"], {}
    if sizes is None and opset >= 18:
        attributes["num_outputs"] = 2
    elif sizes and opset < 13:
        attributes["split"] = list(sizes)
    elif sizes:
        names, constants = ["x", "sizes"], {"sizes": integers(*sizes)}
    split = node("Split", names, ["y", "z"], **attributes)
    agrees(model([split], SHAPE, constants=constants, outputs=("y", "z"), opset=opset), tmp_path)


def test_split_into_unequal_parts_and_an_unused_one(tmp_path: Path) -> None:
    split = node("Split", ["x"], ["y", "", "z"], axis=1, num_outputs=3)
    graph = load_onnx(saved(model([split], ("n", 8), outputs=("y", "z"), opset=18), tmp_path))
    assert [n.output for n in graph] == ["y", "z"]
    assert [graph.types[o].shape for o in "yz"] == [(None, 3), (None, 2)]


@pytest.mark.parametrize("index", [2, -1, [1], [0, 1, 2], [1, 3, 5], [-2, -1]])
def test_gather_of_evenly_spaced_cells(index, tmp_path: Path) -> None:
    constants = {"i": np.array(index, np.int64)}
    agrees(model([node("Gather", ["x", "i"], axis=3)], SHAPE, constants=constants), tmp_path)


@pytest.mark.parametrize("index", [[2, 1], [0, 1, 3], [1, 1], [[0, 1]], 6, -7])
def test_other_gathers_are_refused(index, tmp_path: Path) -> None:
    constants = {"i": np.array(index, np.int64)}
    with pytest.raises(IngestError, match="evenly spaced"):
        load_onnx(saved(model([node("Gather", ["x", "i"], axis=3)], SHAPE, constants=constants), tmp_path))


@pytest.mark.parametrize("axis", [1, 3, -2])
def test_concat(axis: int, tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], "r"), node("Concat", ["x", "r", "x"], axis=axis)]
    agrees(model(nodes, SHAPE), tmp_path)


@pytest.mark.parametrize(
    ("names", "axis", "message"), [("xr", 0, "axis 0"), ("xt", 1, "agree in every axis"), ("xc", 1, "constant")]
)
def test_concats_that_are_refused(names: str, axis: int, message: str, tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["x"], "r"),
        node("Transpose", ["x"], "t", perm=[0, 1, 3, 2]),
        node("Concat", [*names], axis=axis),
    ]
    with pytest.raises(IngestError, match=message):
        load_onnx(saved(model(nodes, SHAPE, constants={"c": np.zeros((1, 4, 3, 6), np.float32)}), tmp_path))


@pytest.mark.parametrize("value", [None, 0.0, -1.5])
@pytest.mark.parametrize("opset", [9, 11, 18, 23])
def test_pad(opset: int, value: float | None, tmp_path: Path) -> None:
    pads = (0, 1, 0, 2, 0, 0, 3, 1)
    if opset < 11:
        attributes = {"pads": list(pads)} | ({} if value is None else {"value": value})
        proto = model([node("Pad", ["x"], **attributes)], SHAPE, opset=opset)
    else:
        constants = {"p": integers(*pads)} | ({} if value is None else {"v": value})
        proto = model([node("Pad", ["x", *constants], mode="constant")], SHAPE, constants=constants, opset=opset)
    agrees(proto, tmp_path)


def test_pad_of_some_axes(tmp_path: Path) -> None:
    constants = {"p": integers(1, 0, 2, 3), "v": 0.5, "a": integers(-1, 2)}
    agrees(model([node("Pad", ["x", *constants])], SHAPE, constants=constants, opset=18), tmp_path)


@pytest.mark.parametrize(
    ("pads", "mode", "message"),
    [
        ((0, 0, 1, 1, 0, 0, 1, 1), "reflect", "mode 'reflect'"),
        ((0, 0, 1, 1, 0, 0, 1, 1), "edge", "mode 'edge'"),
        ((1, 0, 0, 0, 0, 0, 0, 0), "constant", "the batch is not padded"),
        ((0, 0, 0, -1, 0, 0, 0, 0), "constant", "before is"),
        ((0, 0, 1, 1, 0, 0, 1), "constant", "every padded axis has two pads"),
    ],
)
def test_pads_that_are_refused(pads: tuple[int, ...], mode: str, message: str, tmp_path: Path) -> None:
    proto = model([node("Pad", ["x", "p"], mode=mode)], SHAPE, constants={"p": integers(*pads)})
    with pytest.raises(IngestError, match=message):
        load_onnx(saved(proto, tmp_path))
