from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subbyte.errors import IngestError
from tests.ingest.onnx_models import agrees, model, node


@st.composite
def windows(draw: st.DrawFn):
    dims = draw(st.sampled_from([1, 2]))
    kernel = draw(st.tuples(*[st.integers(1, 4)] * dims))
    strides = [draw(st.integers(1, min(3, k))) for k in kernel]  # onnxruntime fails on SAME with longer strides
    attributes: dict[str, object] = {"kernel_shape": list(kernel), "strides": strides}
    padding = draw(st.sampled_from(["pads", "SAME_UPPER", "SAME_LOWER", "VALID", "none"]))
    if padding == "pads":
        attributes["pads"] = [draw(st.integers(0, k - 1)) for k in kernel * 2]
    elif padding != "none":
        attributes["auto_pad"] = padding
    if padding in ("pads", "none") and draw(st.booleans()):
        attributes["ceil_mode"] = 1
    return ("n", 2, *draw(st.tuples(*[st.integers(6, 10)] * dims))), attributes


@given(case=windows(), opset=st.sampled_from([12, 13, 18, 22]), data=st.data())
def test_max_pool(case, opset: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    shape, attributes = case
    if "auto_pad" not in attributes and data.draw(st.booleans()):
        attributes["dilations"] = [data.draw(st.integers(1, 2)) for _ in shape[2:]]
    agrees(model([node("MaxPool", ["x"], **attributes)], shape, opset=opset), tmp_path_factory.mktemp("pool"))


@given(case=windows(), opset=st.sampled_from([11, 13, 19, 22]), include=st.sampled_from([0, 1]))
def test_average_pool(case, opset: int, include: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    shape, attributes = case
    layer = node("AveragePool", ["x"], count_include_pad=include, **attributes)
    agrees(model([layer], shape, opset=opset), tmp_path_factory.mktemp("pool"))


@pytest.mark.parametrize("kind", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [("n", 2, 7), ("n", 2, 5, 6)])
def test_global_pools(kind: str, shape, tmp_path: Path) -> None:
    agrees(model([node(kind, ["x"])], shape), tmp_path)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[1], [-1, -2], [3, 1], [1, 2, 3]])
@pytest.mark.parametrize("opset", [11, 13, 18, 23])
def test_reduce_mean(opset: int, axes: list[int], keepdims: int, tmp_path: Path) -> None:
    shape = ("n", 3, 4, 5)
    if opset < 18:
        proto = model([node("ReduceMean", ["x"], axes=axes, keepdims=keepdims)], shape, opset=opset)
    else:
        layer = node("ReduceMean", ["x", "axes"], keepdims=keepdims)
        proto = model([layer], shape, constants={"axes": np.array(axes)}, opset=opset)
    agrees(proto, tmp_path)


def test_a_mean_over_no_axes_leaves_all_as_it_is(tmp_path: Path) -> None:
    layer = node("ReduceMean", ["x"], noop_with_empty_axes=1)
    agrees(model([layer], ("n", 3), opset=18), tmp_path)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (node("ReduceMean", ["x"]), "means leave the batch alone"),
        (node("ReduceMean", ["x"], axes=[0]), "axis behind the batch"),
        (node("ReduceMean", ["x"], axes=[4]), "axis 4 of a tensor of 4 axes"),
        (node("MaxPool", ["x"], ["y", "where"], kernel_shape=[2, 2]), "output 'where' of MaxPool is used"),
        (node("MaxPool", ["x"], kernel_shape=[2, 2, 2]), "each spatial axis"),
        (node("MaxPool", ["x"], kernel_shape=[2, 2], strides=[0, 1]), "at least 1"),
        (node("MaxPool", ["x"], kernel_shape=[9, 2]), "a window fits the padded input"),
        (node("AveragePool", ["x"], kernel_shape=[2, 2], pads=[2, 0, 2, 0]), "each window meets the input"),
    ],
)
def test_what_pools_refuse(layer, message: str, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=message):
        agrees(model([layer], ("n", 3, 4, 5)), tmp_path)


def test_dilated_average_pools_are_refused(tmp_path: Path) -> None:
    layer = node("AveragePool", ["x"], kernel_shape=[2, 2], dilations=[2, 1])
    with pytest.raises(IngestError, match="not dilated"):
        agrees(model([layer], ("n", 3, 4, 5), opset=19), tmp_path)


def test_three_spatial_axes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="one or two spatial axes"):
        agrees(model([node("MaxPool", ["x"], kernel_shape=[2, 2, 2])], ("n", 3, 4, 5, 6)), tmp_path)
