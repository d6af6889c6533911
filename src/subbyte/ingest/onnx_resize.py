"""Resize and Upsample where they equal the one rule ``source = i * rows_in // rows_out``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from subbyte.graph.ir import Dim
from subbyte.graph.ops import ResizeNearest
from subbyte.ingest.onnx_call import Array, Call, Table

RESIZE = Table()

_COORDINATES: Final[dict[str, Callable[[Array, Array, int, int], Array]]] = {
    "half_pixel": lambda i, scale, _in, _out: (i + i.dtype.type(0.5)) / scale - i.dtype.type(0.5),
    "half_pixel_symmetric": lambda i, scale, size, out: (
        (i + i.dtype.type(0.5)) / scale
        - i.dtype.type(0.5)
        + i.dtype.type(size / 2) * (1 - i.dtype.type(out) / (scale * i.dtype.type(size)))
    ),
    "pytorch_half_pixel": lambda i, scale, _in, out: (
        (i + i.dtype.type(0.5)) / scale - i.dtype.type(0.5) if out > 1 else i * 0
    ),
    "asymmetric": lambda i, scale, _in, _out: i / scale,
    "align_corners": lambda i, _scale, size, out: i * i.dtype.type(size - 1) / i.dtype.type(max(out - 1, 1)),
}
_ROUNDINGS: Final[dict[str, Callable[[Array], Array]]] = {
    "round_prefer_floor": lambda x: np.ceil(x - x.dtype.type(0.5)),
    "round_prefer_ceil": lambda x: np.floor(x + x.dtype.type(0.5)),
    "floor": np.floor,
    "ceil": np.ceil,
}


@RESIZE.add("Resize")
def _resize(call: Call) -> None:
    if call.opset < 11:
        _by_scales(call, 1, "asymmetric", "floor")
        return
    axes = _axes(call)
    coordinates = call.attribute("coordinate_transformation_mode", "half_pixel")
    rounding = call.attribute("nearest_mode", "round_prefer_floor")
    if call.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise call.fail("the aspect ratio is kept", "sizes are given outright", "give the sizes of each axis")
    if call.has(3) and len(call.sizes(3)):
        sizes = _spread(call, axes, call.sizes(3), call.value().shape)
        _to_size(call, sizes, None, coordinates, rounding)
        return
    _by_scales(call, 2, coordinates, rounding, axes)


@RESIZE.add("Upsample")
def _upsample(call: Call) -> None:
    _by_scales(call, 1, "asymmetric", "floor")


def _axes(call: Call) -> tuple[int, ...]:
    rank = len(call.value().shape)
    return tuple(a % rank for a in call.vector("axes", range(rank)))


def _spread(call: Call, axes: tuple[int, ...], given: tuple[Dim, ...], rest: tuple[Dim, ...]) -> list[Dim]:
    """Entries given for some axes, with those of ``rest`` at the others."""
    if len(given) != len(axes):
        seen = f"{len(given)} entries for {len(axes)} axes"
        raise call.fail(seen, "there is one size or scale per axis", "correct the model")
    full = list(rest)
    for axis, entry in zip(axes, given, strict=True):
        full[axis] = entry
    return full


def _by_scales(call: Call, operand: int, coordinates: str, rounding: str, axes: tuple[int, ...] | None = None) -> None:
    x = call.value()
    given = call.floats(operand).reshape(-1)
    axes = tuple(range(len(x.shape))) if axes is None else axes
    if len(given) != len(axes) or np.any(given <= 0):
        seen = f"scales {given.tolist()} for {len(axes)} axes"
        raise call.fail(seen, "there is one positive scale per axis", "correct the model")
    scales = [1.0] * len(x.shape)
    for axis, scale in zip(axes, given.tolist(), strict=True):
        scales[axis] = scale
    if call.opset < 11 and min(scales) < 1:
        raise call.fail(f"scales {scales} at opset {call.opset}", "old scales enlarge", "export with opset 13")
    sizes = [d if d is None else math.floor(d * s) for d, s in zip(x.shape, scales, strict=True)]
    if scales[0] != 1:
        raise call.fail(f"the batch is scaled by {scales[0]}", "rows and columns are resized", "leave the batch alone")
    _to_size(call, sizes, scales, coordinates, rounding)


def _to_size(call: Call, sizes: list[Dim], scales: list[float] | None, coordinates: str, rounding: str) -> None:
    x = call.value()
    mode = call.attribute("mode", "nearest")
    if mode != "nearest" or coordinates not in _COORDINATES or rounding not in _ROUNDINGS:
        seen = f"mode {mode!r}, coordinates {coordinates!r}, rounding {rounding!r}"
        raise call.fail(seen, "images are resized to the nearest pixel", "export with mode nearest and asymmetric")
    whole_batch = sizes[0] is None or sizes[0] == call.builder.fixed_batch
    if len(sizes) != 4 or len(x.shape) != 4 or not whole_batch or sizes[1] != x.shape[1]:
        seen = f"{list(x.shape)} resized to {sizes}"
        raise call.fail(seen, "rows and columns of (batch, channels, rows, columns) are resized", "resize nothing else")
    for axis in (2, 3):
        old, new = x.shape[axis] or 1, sizes[axis] or 0
        scale = new / old if scales is None else scales[axis]
        if not 1 <= new <= 2**24 or not _as_ours(old, new, scale, coordinates, rounding):
            seen = f"{old} cells resized to {new} with {coordinates} coordinates and rounding {rounding}"
            rule = "cell i of the result is cell i * in // out of the input"
            raise call.fail(seen, rule, "export with asymmetric coordinates and floor, or an integer scale")
    call.emit(ResizeNearest(size=(sizes[2] or 0, sizes[3] or 0)), x.name)


def _as_ours(old: int, new: int, scale: float, coordinates: str, rounding: str) -> bool:
    """Whether every cell comes from where ours does, in float32 as runtimes compute it and in float64 as defined."""
    ours = np.arange(new, dtype=np.int64) * old // new
    for kind in (np.float32, np.float64):
        places = _COORDINATES[coordinates](np.arange(new, dtype=kind), np.asarray(scale, kind), old, new)
        if not np.array_equal(np.clip(_ROUNDINGS[rounding](places), 0, old - 1), ours):
            return False
    return True
