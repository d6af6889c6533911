"""Operators that move numbers: reshapes, transposes, slices, concatenation, padding."""

from __future__ import annotations

import math
from collections.abc import Sequence

from subbyte.graph.ir import BATCH, Dim, Shape
from subbyte.graph.ops import Concat, Pad, Reshape, Slice, Transpose
from subbyte.ingest.onnx_call import Activation, Call, Table

MOVEMENT = Table()

_KEEP_BATCH = "keep the batch as the first axis, alone"


def _reshape_to(call: Call, x: Activation, shape: Shape, output: str | None = None) -> None:
    call.emit(Reshape(shape=shape), x.name, output=output, integral=x.integral)


@MOVEMENT.add("Reshape")
def _reshape(call: Call) -> None:
    x = call.value()
    target = call.sizes(1)
    shape = _target(call, x.shape, target)
    if math.prod(d or 1 for d in shape[1:]) != math.prod(d or 1 for d in x.shape[1:]) or BATCH in shape[1:]:
        seen = f"{_text(x.shape)} reshaped to {_text(target)}"
        raise call.fail(seen, "a reshape leaves the batch alone", _KEEP_BATCH)
    _reshape_to(call, x, shape)


def _target(call: Call, x: Shape, target: Sequence[Dim]) -> Shape:
    """The target with the batch as None, copied and inferred entries filled in."""
    copies = not call.attribute("allowzero", 0)
    seen = f"{_text(x)} reshaped to {_text(target)}"
    if not target:
        raise call.fail(seen, "a reshape leaves the batch alone", _KEEP_BATCH)
    filled = [x[i] if d == 0 and copies and i < len(x) else d for i, d in enumerate(target)]
    first, rest = filled[0], filled[1:]
    fixed = first is not None and first == call.builder.fixed_batch
    if first not in (BATCH, -1) and not fixed:
        raise call.fail(seen, "the first axis of a reshape is the batch", "export with -1 or 0 there")
    size = math.prod(d or 1 for d in x[1:])
    known = math.prod(d for d in rest if d is not None and d != -1)
    if rest.count(-1) > (0 if first == -1 else 1) or (-1 in rest and (known < 1 or size % known)):
        raise call.fail(seen, "at most one entry is inferred, and it divides evenly", "correct the target shape")
    return (BATCH, *(size // known if d == -1 else d for d in rest))


@MOVEMENT.add("Flatten")
def _flatten(call: Call) -> None:
    x = call.value()
    rank = len(x.shape)
    axis = call.attribute("axis", 1)
    axis = axis + rank if axis < 0 else axis
    if not 1 <= axis <= rank or any(d != 1 for d in x.shape[1:axis]):
        seen = f"{_text(x.shape)} flattened at axis {axis}"
        raise call.fail(seen, "the axes behind the batch are flattened", "use axis 1")
    _reshape_to(call, x, (BATCH, math.prod(d or 1 for d in x.shape[axis:])))


def _axes(call: Call) -> tuple[int, ...] | None:
    """The axes of Squeeze and Unsqueeze: an attribute before opset 13, an operand since."""
    if call.has(1):
        return call.integers(1)
    return call.vector("axes", ()) if "axes" in call.attributes else None


@MOVEMENT.add("Squeeze")
def _squeeze(call: Call) -> None:
    x = call.value()
    axes = _axes(call)
    if axes is None:
        if (call.builder.fixed_batch or 1) == 1:
            seen = "Squeeze without axes, which would drop a batch of one as well"
            raise call.fail(seen, "squeezed axes are named", "export with explicit axes")
        axes = tuple(i for i, d in enumerate(x.shape) if d == 1)
    dropped = {call.axis(a, len(x.shape)) for a in axes}
    if any(x.shape[a] != 1 for a in dropped):
        seen = f"axes {sorted(dropped)} of {_text(x.shape)}"
        raise call.fail(seen, "squeezed axes have length 1", "correct the axes")
    _reshape_to(call, x, tuple(d for i, d in enumerate(x.shape) if i not in dropped))


@MOVEMENT.add("Unsqueeze")
def _unsqueeze(call: Call) -> None:
    x = call.value()
    axes = _axes(call) or ()
    rank = len(x.shape) + len(axes)
    added = {call.axis(a, rank) for a in axes}
    if len(added) != len(axes):
        raise call.fail(f"axes {list(axes)}", "each new axis is named once", "correct the axes")
    old = iter(x.shape)
    _reshape_to(call, x, tuple(1 if i in added else next(old) for i in range(rank)))


@MOVEMENT.add("Transpose")
def _transpose(call: Call) -> None:
    x = call.value()
    perm = call.vector("perm", tuple(reversed(range(len(x.shape)))))
    call.emit(Transpose(perm=perm), x.name, integral=x.integral)


@MOVEMENT.add("Slice")
def _slice(call: Call) -> None:
    x = call.value()
    rank = len(x.shape)
    if "starts" in call.attributes:  # before opset 10
        starts: Sequence[Dim] = call.vector("starts", ())
        ends: Sequence[Dim] = call.vector("ends", ())
        axes, steps = call.vector("axes", range(len(starts))), (1,) * len(starts)
    else:
        starts, ends = call.sizes(1), call.sizes(2)
        axes = call.integers(3) if call.has(3) else tuple(range(len(starts)))
        steps = call.integers(4) if call.has(4) else (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        seen = f"{len(starts)} starts, {len(ends)} ends, {len(axes)} axes, {len(steps)} steps"
        raise call.fail(seen, "every sliced axis has a start, an end and a step", "correct the model")
    bounds: dict[int, tuple[int, int, int]] = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis in (0, -rank):
            _whole_batch(call, start, end, step)
            continue
        behind = call.axis(axis, rank)
        bounds[behind] = _range(call, start, end, step, x.shape[behind])
    _slice_to(call, x, bounds)


def _whole_batch(call: Call, start: Dim, end: Dim, step: int) -> None:
    """Accept a slice that takes all samples."""
    length = call.builder.fixed_batch
    to_the_end = end is BATCH or end >= (2**31 - 1 if length is None else length)
    if start != 0 or step != 1 or not to_the_end:
        raise call.fail(f"a slice {start}:{end}:{step} of the batch", "the batch is taken whole", _KEEP_BATCH)


def _range(call: Call, start: Dim, end: Dim, step: int, length: Dim) -> tuple[int, int, int]:
    """Start, end and step as ONNX reads them, with 0 <= start < end <= length."""
    if start is None or end is None or length is None or step == 0:
        raise call.fail(f"a slice {start}:{end}:{step}", "bounds are known and the step is not 0", "fix the bounds")
    cells = range(length)[slice(start, end, step)]
    if len(cells) == 0:
        raise call.fail(f"a slice {start}:{end}:{step} of {length}", "a slice takes at least one cell", "enlarge it")
    if len(cells) == 1:
        return cells[0], cells[0] + 1, 1
    if step < 0:
        raise call.fail(f"a slice with step {step}", "steps are positive", "reverse the weights behind it instead")
    return cells[0], cells[-1] + 1, step


def _slice_to(
    call: Call, x: Activation, bounds: dict[int, tuple[int, int, int]], output: str | None = None
) -> Activation:
    """Emit a slice of some axes."""
    starts, ends, steps = [0] * len(x.shape), [*x.shape], [1] * len(x.shape)
    for axis, (start, end, step) in bounds.items():
        starts[axis], ends[axis], steps[axis] = start, end, step
    op = Slice(starts=tuple(starts), ends=tuple(ends), steps=tuple(steps))
    return call.emit(op, x.name, output=output, integral=x.integral)


@MOVEMENT.add("Split")
def _split(call: Call) -> None:
    x = call.value()
    axis = call.axis(call.attribute("axis", 0), len(x.shape))
    length, parts = x.shape[axis] or 1, len(call.outputs)
    if call.has(1) or "split" in call.attributes:
        sizes = call.integers(1) if call.has(1) else call.vector("split", ())
    else:
        part = -(-length // parts)
        sizes = (*(part,) * (parts - 1), length - part * (parts - 1))
    if len(sizes) != parts or sum(sizes) != length or min(sizes) < 1:
        seen = f"{length} cells split into {list(sizes)} for {parts} outputs"
        raise call.fail(seen, "the parts are not empty and add up", "correct the split")
    start = 0
    for size, output in zip(sizes, call.outputs, strict=True):
        if output:
            _slice_to(call, x, {axis: (start, start + size, 1)}, output)
        start += size


@MOVEMENT.add("Gather")
def _gather(call: Call) -> None:
    """One index or evenly spaced ascending ones: a slice."""
    x, indices = call.value(), call.array(1)
    axis = call.axis(call.attribute("axis", 0), len(x.shape))
    length = x.shape[axis] or 1
    cells = [int(i) + length if i < 0 else int(i) for i in indices.reshape(-1)]
    step = cells[1] - cells[0] if len(cells) > 1 else 1
    even = bool(cells) and step > 0 and cells == list(range(cells[0], cells[-1] + 1, step))
    if indices.ndim > 1 or not even or cells[0] < 0 or cells[-1] >= length:
        seen = f"indices {indices.reshape(-1)[:8].tolist()} of {length} cells"
        raise call.fail(seen, "gathered cells are evenly spaced, in ascending order", "permute the weights instead")
    bounds = {axis: (cells[0], cells[-1] + 1, step)}
    if indices.ndim:
        _slice_to(call, x, bounds)
        return
    cell = _slice_to(call, x, bounds, output="")
    _reshape_to(call, cell, (*x.shape[:axis], *x.shape[axis + 1 :]))


@MOVEMENT.add("Concat")
def _concat(call: Call) -> None:
    values = [call.value(i) for i in range(len(call.operands))]
    axis = call.axis(call.attribute("axis", 1), len(values[0].shape))
    call.emit(Concat(axis=axis), *(v.name for v in values), integral=all(v.integral for v in values))


@MOVEMENT.add("Pad")
def _pad(call: Call) -> None:
    x = call.value()
    rank = len(x.shape)
    if call.has(1):
        pads, value = call.integers(1), call.scalar(2, 0.0)
        axes = call.integers(3) if call.has(3) else tuple(range(rank))
    else:  # before opset 11
        pads, value, axes = call.vector("pads", ()), float(call.attribute("value", 0.0)), tuple(range(rank))
    mode = call.attribute("mode", "constant")
    if mode != "constant" and any(pads):
        raise call.fail(f"mode {mode!r}", "padding has a constant value", "pad the input outside the network")
    if len(pads) != 2 * len(axes) or any(not -rank <= a < rank for a in axes):
        seen = f"{len(pads)} pads for axes {list(axes)} of {rank}"
        raise call.fail(seen, "every padded axis has two pads", "correct the model")
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[len(axes) + i]
    call.emit(Pad(before=tuple(before), after=tuple(after), value=value), x.name)


def _text(shape: Sequence[Dim]) -> str:
    return str(["batch" if d is None else d for d in shape])
