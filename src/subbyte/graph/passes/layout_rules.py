"""How each operator acts on values that do not lie in the user's order; one function per kind of operator.

An operator without a rule gets its operands in the user's order and gives its result in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.graph.ir import BATCH, Node
from subbyte.graph.ops.add import Add, Sub
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.argmax import Argmax
from subbyte.graph.ops.avg_pool import AvgPool
from subbyte.graph.ops.batch_norm import BatchNorm
from subbyte.graph.ops.concat import Concat
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.identity import Identity
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.log_softmax import LogSoftmax
from subbyte.graph.ops.max_pool import MaxPool
from subbyte.graph.ops.mean import Mean
from subbyte.graph.ops.mul import Mul
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.pad import Pad
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.ops.resize_nearest import ResizeNearest
from subbyte.graph.ops.slice import Slice
from subbyte.graph.ops.softmax import Softmax
from subbyte.graph.ops.transpose import Transpose
from subbyte.graph.ops.unary import Unary
from subbyte.graph.passes.layout import Perm, Shuffle, Stored, channels_last, identity, reshaped
from subbyte.graph.passes.layout_walk import LayoutWalk

Rule: TypeAlias = Callable[[LayoutWalk, Node], None]


def apply_rule(walk: LayoutWalk, node: Node) -> None:
    """Write one node of the user's graph into the new one."""
    RULES.get(type(node.op), _user_order)(walk, node)


def _user_order(walk: LayoutWalk, node: Node) -> None:
    inputs = [
        walk.keep(i) if i in walk.graph.constants else walk.bring(i, identity(len(walk.shape(i))), node)
        for i in node.inputs
    ]
    walk.emit(node, node.op, inputs, _lies(identity(len(walk.shape(node.output)))))


def _lies(perm: Perm, shuffle: Shuffle | None = None) -> Stored:
    return Stored("", perm, shuffle)


def _unshuffled(walk: LayoutWalk, node: Node) -> tuple[str, Perm]:
    """The first operand where it lies, its last axis in the user's order."""
    lies = walk.stored(node.inputs[0])
    return walk.bring(node.inputs[0], lies.perm, node), lies.perm


def _pointwise(walk: LayoutWalk, node: Node) -> None:
    lies = walk.stored(node.inputs[0])
    walk.emit(node, node.op, (lies.name,), lies)


def _affine(walk: LayoutWalk, node: Node) -> None:
    """Along the moved axis; one that treats all channels alike runs along the last axis."""
    lies, op = walk.stored(node.inputs[0]), node.op
    arrays = [walk.constant(name) for name in node.inputs[1:]]
    if not isinstance(op, Affine) or any(a is None for a in arrays):
        return _user_order(walk, node)
    axis, size = lies.perm.index(op.axis), walk.shape(node.inputs[0])[lies.perm[-1]]
    numbers = [np.asarray(a) for a in arrays]
    if all(np.all(a == a[0]) for a in numbers) and size is not None:
        axis, numbers = len(lies.perm) - 1, [np.full(size, a[0], dtype=a.dtype) for a in numbers]
    elif lies.shuffle is not None:
        numbers = [a[lies.shuffle.columns()] for a in numbers]
    names = [walk.relay(name, a) for name, a in zip(node.inputs[1:], numbers, strict=True)]
    return walk.emit(node, replace(op, axis=axis), (lies.name, *names), lies)


def _axis(walk: LayoutWalk, node: Node) -> None:
    assert isinstance(node.op, (BatchNorm, Softmax, LogSoftmax))
    name, perm = _unshuffled(walk, node)
    constants = [walk.keep(i) for i in node.inputs[1:]]
    walk.emit(node, replace(node.op, axis=perm.index(node.op.axis)), (name, *constants), _lies(perm))


def _reduced(perm: Perm, axes: Sequence[int], *, keepdims: bool) -> Perm:
    """Order of a result that lost (or keeps with length 1) some of the user's axes."""
    if keepdims:
        return perm
    left = [axis for axis in perm if axis not in axes]
    return tuple(sorted(left).index(axis) for axis in left)


def _mean(walk: LayoutWalk, node: Node) -> None:
    assert isinstance(node.op, Mean)
    name, perm = _unshuffled(walk, node)
    op = replace(node.op, axes=tuple(sorted(perm.index(axis) for axis in node.op.axes)))
    walk.emit(node, op, (name,), _lies(_reduced(perm, node.op.axes, keepdims=node.op.keepdims)))


def _argmax(walk: LayoutWalk, node: Node) -> None:
    assert isinstance(node.op, Argmax)
    name, perm = _unshuffled(walk, node)
    op = replace(node.op, axis=perm.index(node.op.axis))
    walk.emit(node, op, (name,), _lies(_reduced(perm, (node.op.axis,), keepdims=node.op.keepdims)))


def _pad(walk: LayoutWalk, node: Node) -> None:
    assert isinstance(node.op, Pad)
    name, perm = _unshuffled(walk, node)
    before, after = (tuple(edge[axis] for axis in perm) for edge in (node.op.before, node.op.after))
    walk.emit(node, replace(node.op, before=before, after=after), (name,), _lies(perm))


def _slice(walk: LayoutWalk, node: Node) -> None:
    assert isinstance(node.op, Slice)
    name, perm = _unshuffled(walk, node)
    starts, steps = (tuple(along[axis] for axis in perm) for along in (node.op.starts, node.op.steps))
    ends = tuple(node.op.ends[axis] for axis in perm)
    walk.emit(node, replace(node.op, starts=starts, ends=ends, steps=steps), (name,), _lies(perm))


def _transpose(walk: LayoutWalk, node: Node) -> None:
    """Nothing moves: the value is seen in another order."""
    assert isinstance(node.op, Transpose)
    lies = walk.stored(node.inputs[0])
    walk.dissolve(node, replace(lies, perm=tuple(node.op.perm.index(axis) for axis in lies.perm)))


def _identity(walk: LayoutWalk, node: Node) -> None:
    walk.dissolve(node, walk.stored(node.inputs[0]))


def _reshape(walk: LayoutWalk, node: Node) -> None:
    lies = walk.stored(node.inputs[0])
    if lies.shuffle is not None:
        return _user_order(walk, node)
    before, after = (tuple(d or 1 for d in walk.shape(v)[1:]) for v in (node.inputs[0], node.output))
    wanted, result = reshaped(before, after, lies.perm)
    sizes = walk.shape(node.output)
    op = Reshape(shape=(BATCH, *(sizes[axis] for axis in result[1:])))
    if wanted != lies.perm and len(after) == 1:
        shuffle = Shuffle(before, tuple(axis - 1 for axis in lies.perm[1:]))
        return walk.emit(node, op, (lies.name,), _lies((0, 1), shuffle))
    return walk.emit(node, op, (walk.bring(node.inputs[0], wanted, node),), _lies(result))


def _linear(walk: LayoutWalk, node: Node) -> None:
    """On the last axis; the columns of the weight follow a shuffled operand."""
    lies = walk.stored(node.inputs[0])
    weight = walk.constant(node.inputs[1])
    in_place = lies.perm[-1] == len(lies.perm) - 1
    if weight is None or not in_place:
        return _user_order(walk, node)
    bias = [walk.keep(i) for i in node.inputs[2:]]
    columns = slice(None) if lies.shuffle is None else lies.shuffle.columns()
    name = walk.relay(node.inputs[1], weight[:, columns])
    return walk.emit(node, node.op, (lies.name, name, *bias), _lies(lies.perm))


def _spatial(walk: LayoutWalk, node: Node) -> None:
    op = node.op
    assert isinstance(op, (Conv, MaxPool, AvgPool, ResizeNearest))
    rank, first = len(walk.shape(node.inputs[0])), op.layout == "channels_first"
    names = [walk.keep(i) for i in node.inputs[1:]]
    if isinstance(op, Conv) and first:
        weight = walk.constant(node.inputs[1])
        if weight is None:
            return _user_order(walk, node)
        names[0] = walk.relay(node.inputs[1], np.moveaxis(weight, 1, -1))
    perm = channels_last(rank) if first else identity(rank)
    x = walk.bring(node.inputs[0], perm, node)
    return walk.emit(node, replace(op, layout="channels_last"), (x, *names), _lies(perm))


def _common(walk: LayoutWalk, node: Node) -> Stored:
    """The order in which the operands of one rank meet: the first that is not the user's, or the only one."""
    lies = [walk.stored(i) for i in node.inputs if i not in walk.graph.constants]
    rank = len(walk.shape(node.output))
    if any(len(one.perm) != rank for one in lies):
        return _lies(identity(rank))
    shuffle = lies[0].shuffle if all(one.shuffle == lies[0].shuffle for one in lies) else None
    return _lies(next((one.perm for one in lies if one.perm != identity(rank)), identity(rank)), shuffle)


def _binary(walk: LayoutWalk, node: Node) -> None:
    meet = _common(walk, node)
    inputs = []
    for name in node.inputs:
        constant = walk.constant(name)
        if constant is not None:
            inputs.append(walk.relay(name, _follow(constant, meet)))
        elif meet.shuffle is not None:
            inputs.append(walk.stored(name).name)
        else:
            inputs.append(_brought(walk, name, meet.perm, node))
    walk.emit(node, node.op, inputs, meet)


def _brought(walk: LayoutWalk, value: str, perm: Perm, node: Node) -> str:
    rank = len(walk.shape(value))
    return walk.bring(value, perm if rank == len(perm) else identity(rank), node)


def _follow(constant: npt.NDArray[np.generic], meet: Stored) -> npt.NDArray[np.generic]:
    """A constant that broadcasts from the right, reordered like the values that it meets."""
    if meet.plain or constant.size == 1:
        return constant
    full = constant.reshape((1,) * (len(meet.perm) - constant.ndim) + constant.shape).transpose(meet.perm)
    full = full.reshape(full.shape[1:])
    if meet.shuffle is not None and full.shape[-1] > 1:
        full = full[..., meet.shuffle.columns()]
    return full


def _concat(walk: LayoutWalk, node: Node) -> None:
    if not isinstance(node.op, Concat) or any(i in walk.graph.constants for i in node.inputs):
        return _user_order(walk, node)
    perm = _common(walk, node).perm
    inputs = [walk.bring(i, perm, node) for i in node.inputs]
    return walk.emit(node, replace(node.op, axis=perm.index(node.op.axis)), inputs, _lies(perm))


RULES: dict[type[Op], Rule] = {
    **dict.fromkeys((Rectify, Unary), _pointwise),
    **dict.fromkeys((BatchNorm, Softmax, LogSoftmax), _axis),
    **dict.fromkeys((Add, Sub, Mul), _binary),
    **dict.fromkeys((Conv, MaxPool, AvgPool, ResizeNearest), _spatial),
    Affine: _affine,
    Argmax: _argmax,
    Concat: _concat,
    Identity: _identity,
    Linear: _linear,
    Mean: _mean,
    Pad: _pad,
    Reshape: _reshape,
    Slice: _slice,
    Transpose: _transpose,
}
