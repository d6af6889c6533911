"""Windows over spatial axes: output sizes, which cells lie inside, and the slices of each kernel tap.

Shared by convolution and pooling, by float shape inference and by the integer meaning. Sizes follow ONNX ``Conv`` and
``AveragePool`` (opset 19) and ``torch.nn``: with ``ceil_mode`` a last, partial window is added unless it would start
behind the input and its leading padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from subbyte.graph.ops.checks import MAX_ELEMENTS, MAX_WINDOW, boolean, fault, integers
from subbyte.graph.ops.op import Op

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Shape

LAYOUTS = ("channels_first", "channels_last")

MAX_TAPS = 2**20
"""Most cells of a window over all axes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A window sliding along one spatial axis; all lengths in cells.

    Attributes:
        size: of the input.
        kernel: taps of the window.
        stride: step of the window.
        dilation: step between taps.
        before: padding in front of the input.
        after: padding behind it.
        ceil_mode: whether a last partial window counts.
    """

    size: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    ceil_mode: bool = False

    @property
    def extent(self) -> int:
        """Cells from the first tap to the last."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def out(self) -> int:
        """Number of windows; below 1 where none fits."""
        free = self.size + self.before + self.after - self.extent
        if not self.ceil_mode:
            return free // self.stride + 1
        windows = -(-free // self.stride) + 1
        starts_outside = (windows - 1) * self.stride >= self.size + self.before
        return windows - 1 if starts_outside else windows

    @property
    def reach(self) -> tuple[int, int]:
        """Cells to add in front and behind so that every tap of every window exists."""
        end = (self.out - 1) * self.stride + self.extent
        return self.before, max(self.after, end - self.before - self.size)

    def tap(self, index: int) -> slice:
        """The cells that tap ``index`` meets, over the input extended by ``reach``; one per window."""
        first = index * self.dilation
        return slice(first, first + (self.out - 1) * self.stride + 1, self.stride)

    def starts(self) -> npt.NDArray[np.int64]:
        """First cell of each window; negative inside the leading padding."""
        return np.arange(self.out, dtype=np.int64) * self.stride - self.before

    def inside(self) -> npt.NDArray[np.int64]:
        """How many taps of each window meet the input."""
        starts = self.starts()
        first = -(np.minimum(starts, 0) // self.dilation)
        last = np.minimum(self.kernel - 1, (self.size - 1 - starts) // self.dilation)
        return np.asarray(np.maximum(0, last - first + 1), dtype=np.int64)

    def padded(self) -> npt.NDArray[np.int64]:
        """How many cells of each undilated window meet the input or its padding."""
        starts = self.starts()
        ends = np.minimum(starts + self.kernel, self.size + self.after)
        return np.asarray(ends - starts, dtype=np.int64)


def spatial_rank(op: Op, rank: int, dims: tuple[int, ...] = (1, 2)) -> int:
    """Number of spatial axes of an activation (batch, channels, spatial...) of that rank."""
    if rank - 2 not in dims:
        allowed = " or ".join(str(d + 2) for d in dims)
        raise fault(op, f"an activation of rank {rank}", f"rank is {allowed}", "reshape the activation before")
    return rank - 2


def channel_axis(op: Op, layout: str, rank: int) -> int:
    """Where the channels are."""
    if layout not in LAYOUTS:
        rule = f"layout is one of {', '.join(LAYOUTS)}"
        raise fault(op, f"layout is {layout!r}", rule, "correct layout")
    return 1 if layout == "channels_first" else rank - 1


def spatial_sizes(op: Op, shape: Shape, layout: str) -> tuple[int, ...]:
    """The spatial sizes in a legal activation shape."""
    channel = channel_axis(op, layout, len(shape))
    return tuple(d for i, d in enumerate(shape) if i not in (0, channel) and d is not None)


def result_shape(shape: Shape, layout: str, channels: int, spatial: Sequence[int]) -> Shape:
    """The activation shape with these channels and spatial sizes."""
    if layout == "channels_first":
        return (shape[0], channels, *spatial)
    return (shape[0], *spatial, channels)


def windows(op: Op, spatial: Sequence[int], kernel: Sequence[int] | None = None) -> tuple[Axis, ...]:
    """The axes of an operator's window, after a check of its attributes.

    Reads ``stride`` and ``padding``, and where the operator has them ``kernel``, ``dilation`` and ``ceil_mode``.

    Args:
        op: the operator.
        spatial: sizes of the input.
        kernel: taps, where they come from a weight.
    """
    rank = len(spatial)
    taps = integers(op, "kernel", rank, 1, MAX_WINDOW) if kernel is None else kernel
    stride = integers(op, "stride", rank, 1, MAX_WINDOW)
    dilation = integers(op, "dilation", rank, 1, MAX_WINDOW) if hasattr(op, "dilation") else (1,) * rank
    padding = integers(op, "padding", 2 * rank, 0, MAX_WINDOW)
    ceil_mode = boolean(op, "ceil_mode") if hasattr(op, "ceil_mode") else False
    axes = tuple(
        Axis(
            size=spatial[i],
            kernel=taps[i],
            stride=stride[i],
            dilation=dilation[i],
            before=padding[i],
            after=padding[rank + i],
            ceil_mode=ceil_mode,
        )
        for i in range(rank)
    )
    for a in axes:
        if a.kernel > MAX_WINDOW or a.out < 1:
            seen = f"a window of {a.extent} cells over {a.before}+{a.size}+{a.after}"
            raise fault(op, seen, "a window fits the padded input", "enlarge the input or padding")
    padded = math.prod(a.size + sum(a.reach) for a in axes)
    if math.prod(taps) > MAX_TAPS or padded > MAX_ELEMENTS:
        rule = f"windows have at most {MAX_TAPS} cells and padded inputs at most {MAX_ELEMENTS}"
        raise fault(op, f"{math.prod(taps)} cells over {padded}", rule, "reduce kernel and padding")
    return axes


def never_empty(op: Op, axes: Sequence[Axis]) -> None:
    """Every window meets the input at least once."""
    for a in axes:
        if a.inside().min() < 1:
            seen = f"a window of {a.kernel} taps (dilation {a.dilation}) over {a.before}+{a.size}+{a.after} cells"
            raise fault(op, f"{seen} meets padding only", "each window meets the input", "reduce the padding")


def taps(axes: Sequence[Axis]) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Every tap index of the kernel with its slices over the input extended by ``reach``."""
    for index in np.ndindex(*(a.kernel for a in axes)):
        yield index, tuple(a.tap(i) for a, i in zip(axes, index, strict=True))


def torch_padding(axes: Sequence[Axis]) -> list[int]:
    """``reach`` in the order of ``torch.nn.functional.pad``: last axis first."""
    return [cells for a in reversed(axes) for cells in a.reach]


def crop(y: Tensor, axes: Sequence[Axis]) -> Tensor:
    """A pool's result [N, C, *S] without the windows that start behind the input, which ceil_mode leaves out."""
    for i, a in enumerate(axes):
        y = y.narrow(2 + i, 0, a.out)
    return y


def to_channels_first(x: Tensor, layout: str) -> Tensor:
    """[N, *S, C] to [N, C, *S] where the layout asks for it."""
    return x if layout == "channels_first" else x.movedim(-1, 1)


def from_channels_first(x: Tensor, layout: str) -> Tensor:
    """Undo ``to_channels_first``."""
    return x if layout == "channels_first" else x.movedim(1, -1)
