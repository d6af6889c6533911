from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subbyte.errors import IngestError
from subbyte.graph.ops import ResizeNearest
from subbyte.ingest.onnx_file import load_onnx
from subbyte.ingest.onnx_resize import _COORDINATES, _ROUNDINGS
from tests.ingest.onnx_models import agrees, model, node, saved, session


def resize(shape, opset: int = 13, *, scales=None, sizes=None, **attributes: object):
    constants = {"r": np.zeros(0, np.float32), "s": np.float32(scales if scales is not None else [])}
    names = ["x", "r" if opset < 13 else "", "s" if scales is not None or opset < 13 else ""]
    if sizes is not None:
        names.append("z")
        constants["z"] = np.array(sizes, np.int64)
    used = {k: v for k, v in constants.items() if k in names}
    return model([node("Resize", names, **attributes)], shape, constants=used, opset=opset)


@pytest.mark.parametrize("opset", [11, 13, 18, 19])
@pytest.mark.parametrize("scales", [(1, 1, 2, 2), (1, 1, 1, 3), (1, 1, 2.5, 1.5), (1, 1, 0.5, 0.25)])
def test_asymmetric_floor(opset: int, scales: tuple[float, ...], tmp_path: Path) -> None:
    attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    proto = resize(("n", 2, 4, 8), opset, scales=scales, mode="nearest", **attributes)
    graph = agrees(proto, tmp_path)
    assert isinstance(graph.nodes[0].op, ResizeNearest)


@given(
    old=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    new=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    coordinates=st.sampled_from(sorted(_COORDINATES)),
    rounding=st.sampled_from(sorted(_ROUNDINGS)),
)
def test_every_mode_is_either_ours_or_refused(
    old, new, coordinates, rounding, tmp_path_factory: pytest.TempPathFactory
) -> None:
    attributes = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    proto = resize(("n", 1, *old), 19, sizes=(3, 1, *new), mode="nearest", **attributes)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    folder = tmp_path_factory.mktemp("resize")
    reference = session(saved(proto, folder)).run(None, {"x": _counted(old)})[0][0, 0]
    ours = _counted(old)[0, 0][np.ix_(*(np.arange(n) * o // n for n, o in zip(new, old, strict=True)))]
    with contextlib.ExitStack() as refusal:
        if not np.array_equal(ours, reference):
            refusal.enter_context(pytest.raises(IngestError, match="in // out"))
        load_onnx(saved(proto, folder))


def _counted(size) -> np.ndarray:
    """Three images in which every pixel has a number of its own."""
    return np.broadcast_to(np.arange(np.prod(size), dtype=np.float32).reshape(size), (3, 1, *size)).copy()


def test_integer_scales_of_the_default_mode_are_ours(tmp_path: Path) -> None:
    agrees(resize(("n", 2, 4, 5), scales=(1, 1, 2, 3)), tmp_path)


def test_axes_name_what_is_resized(tmp_path: Path) -> None:
    agrees(resize(("n", 2, 4, 5), 18, scales=(2, 3), axes=[2, 3]), tmp_path)
    agrees(resize(("n", 2, 4, 5), 18, sizes=(15, 8), axes=[-1, -2]), tmp_path)


def test_sizes_from_the_shape(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], "all"),
        node("Slice", ["all", "0", "2"], "head"),
        node("Concat", ["head", "rows"], "size", axis=0),
        node("Resize", ["x", "", "", "size"], nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
    ]
    constants = {"0": np.array([0]), "2": np.array([2]), "rows": np.array([6, 5])}
    agrees(model(nodes, ("n", 2, 3, 5), constants=constants), tmp_path)


@pytest.mark.parametrize(("kind", "opset"), [("Upsample", 9), ("Resize", 10)])
def test_old_forms(kind: str, opset: int, tmp_path: Path) -> None:
    layer = node(kind, ["x", "s"], mode="nearest")
    agrees(model([layer], ("n", 2, 4, 5), constants={"s": [1, 1, 2, 3]}, opset=opset), tmp_path)
    with pytest.raises(IngestError, match="old scales enlarge"):
        agrees(model([layer], ("n", 2, 4, 5), constants={"s": [1, 1, 0.5, 1]}, opset=opset), tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scales": (1, 1, 2, 2), "mode": "linear"}, "mode 'linear'"),
        ({"scales": (1, 1, 2, 2), "mode": "cubic"}, "mode 'cubic'"),
        ({"scales": (1, 1, 2, 2), "coordinate_transformation_mode": "tf_crop_and_resize"}, "tf_crop_and_resize"),
        ({"scales": (2, 1, 2, 2)}, "the batch is scaled"),
        ({"scales": (1, 2, 2, 2)}, "rows and columns"),
        ({"scales": (1, 1, 2, 2), "nearest_mode": "ceil"}, "in // out"),
        ({"scales": (1, 1, 2)}, "one positive scale per axis"),
        ({"scales": (1, 1, 0, 2)}, "one positive scale per axis"),
        ({"scales": (1, 1, 1e-3, 2)}, "resized to 0"),
        ({"sizes": (7, 2, 8, 8)}, "rows and columns"),
        ({"scales": (1, 1, 1e30, 2)}, "in // out"),
    ],
)
def test_what_is_refused(arguments: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=message):
        load_onnx(saved(resize(("n", 2, 4, 5), **arguments), tmp_path))
