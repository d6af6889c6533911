"""Padding of windows: explicit ``pads`` or one of the ``auto_pad`` rules."""

from __future__ import annotations

from collections.abc import Sequence

from subbyte.graph.ir import Dim
from subbyte.ingest.onnx_call import Call


def window_padding(
    call: Call, spatial: Sequence[Dim], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    """Cells in front of each spatial axis, then behind each.

    ``SAME_UPPER`` and ``SAME_LOWER`` give ceil(size / stride) results and put the odd cell behind or in front.
    """
    dims = len(kernel)
    if not len(spatial) == dims == len(stride) == len(dilation) or min(*kernel, *stride, *dilation) < 1:
        seen = f"kernel {list(kernel)}, strides {list(stride)}, dilations {list(dilation)} on {len(spatial)} axes"
        raise call.fail(seen, "each spatial axis has a kernel, stride and dilation of at least 1", "correct the model")
    rule = call.attribute("auto_pad", "NOTSET")
    if rule == "NOTSET":
        return call.vector("pads", (0,) * (2 * dims))
    if rule == "VALID":
        return (0,) * (2 * dims)
    if rule not in ("SAME_UPPER", "SAME_LOWER"):
        known = "NOTSET, VALID, SAME_UPPER or SAME_LOWER"
        raise call.fail(f"auto_pad is {rule!r}", f"auto_pad is {known}", "export with explicit pads")
    before, after = [], []
    for size, k, s, d in zip(spatial, kernel, stride, dilation, strict=True):
        length = size or 1
        total = max(0, (-(-length // s) - 1) * s + (k - 1) * d + 1 - length)
        small = total // 2
        before.append(small if rule == "SAME_UPPER" else total - small)
        after.append(total - before[-1])
    return (*before, *after)
