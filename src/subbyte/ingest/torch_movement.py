"""Converters of operators that move numbers without changing them."""

from __future__ import annotations

import numpy as np

from subbyte.graph.ir import Shape
from subbyte.graph.ops import Concat, Op, Pad, Reshape, ResizeNearest, Slice, Transpose
from subbyte.ingest.torch_call import Call, Parts, Table, Unsupported, Value

MOVEMENT = Table()


@MOVEMENT.add("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def _dropout(call: Call) -> Value:
    if call["train"]:
        raise Unsupported("it is active in evaluation mode; pass training=self.training")
    return call.value("input")


@MOVEMENT.add(
    "contiguous", "clone", "detach", "alias", "to", "type_as", "float", "double", "lift_fresh_copy", "_to_copy"
)
def _same(call: Call) -> Value:
    if not call.meta.dtype.is_floating_point:
        raise Unsupported(f"it converts to {call.meta.dtype}; numbers are real here")
    return call.value()


@MOVEMENT.add(
    "reshape", "view", "flatten", "squeeze", "unsqueeze", "unflatten", "_unsafe_view", "view_as", "reshape_as"
)
def _reshape(call: Call) -> Value:
    x = call.value()
    shape = call.known_shape()
    return x if shape == x.shape else call.emit(Reshape(shape=shape), x)


@MOVEMENT.add("permute")
def _permute(call: Call) -> Value:
    x = call.value()
    return _transposed(call, x, [d % x.rank for d in call["dims"]])


@MOVEMENT.add("transpose", "swapaxes", "swapdims")
def _transpose(call: Call) -> Value:
    x = call.value()
    first, second = ("axis0", "axis1") if call["axis0"] is not None else ("dim0", "dim1")
    a, b = call[first] % x.rank, call[second] % x.rank
    perm = list(range(x.rank))
    perm[a], perm[b] = b, a
    return _transposed(call, x, perm)


def _transposed(call: Call, x: Value, perm: list[int]) -> Value:
    if perm[0] != 0:
        raise Unsupported("it moves the batch axis")
    return x if perm == sorted(perm) else call.emit(Transpose(perm=tuple(perm)), x)


@MOVEMENT.add("slice")
def _slice(call: Call) -> Value:
    x = call.value()
    dim, step = call["dim"] % x.rank, call["step"]
    length = x.shape[dim]
    if length is None:  # the batch: x[:, ...] is written so
        if (call["start"] or 0) != 0 or (call["end"] is not None and call["end"] < 2**62) or step != 1:
            raise Unsupported("it takes a part of the batch")
        return x
    start, end, step = slice(call["start"], call["end"], step).indices(length)
    return x if (start, end, step) == (0, length, 1) else call.emit(sliced(x.shape, dim, start, end, step), x)


def sliced(shape: Shape, axis: int, start: int, end: int, step: int = 1) -> Slice:
    """A slice along one axis, all of the others."""
    starts, ends, steps = [0] * len(shape), list(shape), [1] * len(shape)
    starts[axis], ends[axis], steps[axis] = start, end, step
    return Slice(starts=tuple(starts), ends=tuple(ends), steps=tuple(steps))


@MOVEMENT.add("select")
def _select(call: Call) -> Value:
    x = call.value()
    axis = x.axis(call["dim"])
    index = call["index"] % (x.shape[axis] or 1)
    row = call.emit(sliced(x.shape, axis, index, index + 1), x, part="row")
    return call.emit(Reshape(shape=x.shape[:axis] + x.shape[axis + 1 :]), row)


@MOVEMENT.add("chunk", "split", "split_with_sizes", "tensor_split")
def _chunk(call: Call) -> Parts:
    x = call.value()
    axis = x.axis(call["dim"] or 0)
    return Parts(x, axis, tuple(int(piece.shape[axis]) for piece in call.meta), squeeze=False)


@MOVEMENT.add("unbind")
def _unbind(call: Call) -> Parts:
    x = call.value()
    return Parts(x, x.axis(call["dim"]), (1,) * len(call.meta), squeeze=True)


def part(call: Call, parts: Parts, index: int) -> Value:
    """One piece of a split value; ``call`` is that of the piece."""
    start = sum(parts.sizes[:index])
    op: Op = sliced(parts.value.shape, parts.axis, start, start + parts.sizes[index])
    if not parts.squeeze:
        return call.emit(op, parts.value)
    row = call.emit(op, parts.value, part="row")
    return call.emit(Reshape(shape=row.shape[: parts.axis] + row.shape[parts.axis + 1 :]), row)


@MOVEMENT.add("cat", "concat", "concatenate")
def _cat(call: Call) -> Value:
    values = call["tensors"]
    if not all(isinstance(v, Value) for v in values):
        raise Unsupported("one of its operands is a constant; joining values is possible")
    first = values[0]
    return first if len(values) == 1 else call.emit(Concat(axis=first.axis(call["dim"])), *values)


@MOVEMENT.add("pad", "constant_pad_nd")
def _pad(call: Call) -> Value:
    x, amounts = call.value(), list(call["pad"])
    if call["mode"] not in {None, "constant"}:
        raise Unsupported(f"its mode is {call['mode']!r}; padding with a constant is possible")
    if min(amounts, default=0) < 0:
        raise Unsupported("it pads by a negative amount; slice instead")
    before, after = [0] * x.rank, [0] * x.rank
    for i in range(len(amounts) // 2):  # pairs from the last axis backwards
        before[-1 - i], after[-1 - i] = amounts[2 * i], amounts[2 * i + 1]
    if before[0] or after[0]:
        raise Unsupported("it pads the batch axis")
    if not any(before + after):
        return x
    return call.emit(Pad(before=tuple(before), after=tuple(after), value=call.number("value", 0.0)), x)


@MOVEMENT.add("upsample_nearest2d")
def _upsample_nearest(call: Call) -> Value:
    x = call.value("input" if call["input"] is not None else "self")
    scales = call["scale_factors"] or (call["scales_h"], call["scales_w"])
    rows, columns = (int(size or 0) for size in call.known_shape()[2:])
    for length, size, scale in zip(x.shape[2:], (rows, columns), scales, strict=True):
        _check_rows(int(length or 0), size, scale)
    return call.emit(ResizeNearest(size=(rows, columns), layout="channels_first"), x)


def _check_rows(rows_in: int, rows_out: int, scale: float | None) -> None:
    """Torch multiplies by a float32 ratio, the Graph divides integers: refused where they choose different rows."""
    ratio = np.float32(1 / scale) if scale else np.float32(rows_in) / np.float32(rows_out)
    rows = np.arange(rows_out)
    torch_rows = np.minimum(np.floor(rows.astype(np.float32) * ratio).astype(np.int64), rows_in - 1)
    if not np.array_equal(torch_rows, rows * rows_in // rows_out):
        raise Unsupported(f"its scale {scale} makes {rows_out} rows of {rows_in} unevenly; use a whole factor")
