"""Integer operators once more, written independently: one output number at a time, in Python's unbounded integers."""

from __future__ import annotations

import math
from itertools import product

import numpy as np


def requantize(acc: int, m: int, n: int, zero: int, lo: int, hi: int) -> int:
    """Exact quotient acc * m / 2**n rounded to the nearest integer, halves up; then zero point and clamp."""
    quotient, rest = divmod(acc * m, 2**n)
    rounded = quotient + (2 * rest >= 2**n)
    return min(max(zero + rounded, lo), hi)


def sizes(length: int, kernel: int, stride: int, dilation: int, before: int, after: int, ceil_mode: bool) -> list[int]:
    """First cells of the windows that fit; with ceil_mode of a partial one too, none that starts behind the input."""
    span = (kernel - 1) * dilation + 1
    starts = list(range(-before, length + after - span + 1, stride))
    if ceil_mode:
        previous = starts[-1] if starts else -before - stride
        if previous + span < length + after:
            starts.append(previous + stride)
        if starts and starts[-1] >= length:
            starts.pop()
    return starts


def conv(x, op, weight, parameters, zeros):
    """x[N, H, W, C] and weight[O, kh, kw, C/groups]; everything by definition.

    Args:
        x: stored integers.
        op: with the attributes of IntConv.
        weight: integers.
        parameters: bias, m, n[, m_neg, n_neg].
        zeros: zero points of x and of the result.
    """
    bias, m, n, *negative = parameters
    zero_x, zero = zeros
    batch, height, width, _ = x.shape
    outputs, kh, kw, per_group = weight.shape
    top, left, bottom, right = op.padding
    rows = sizes(height, kh, op.stride[0], op.dilation[0], top, bottom, ceil_mode=False)
    columns = sizes(width, kw, op.stride[1], op.dilation[1], left, right, ceil_mode=False)
    y = np.zeros((batch, len(rows), len(columns), outputs), dtype=object)
    for b, (r, row), (c, column), o in product(range(batch), enumerate(rows), enumerate(columns), range(outputs)):
        acc = int(bias[o])
        first = o // (outputs // op.groups) * per_group
        for i, j, k in product(range(kh), range(kw), range(per_group)):
            p, q = row + i * op.dilation[0], column + j * op.dilation[1]
            if 0 <= p < height and 0 <= q < width:
                acc += int(weight[o, i, j, k]) * (int(x[b, p, q, first + k]) - zero_x)
        pair = negative if negative and acc < 0 else (m, n)
        y[b, r, c, o] = requantize(acc, int(pair[0][o]), int(pair[1][o]), zero, op.lo, op.hi)
    return y.astype(np.int64)


def avg_pool(x, zero_x, op, multipliers, zero):
    """x[N, H, W, C]; ``multipliers`` maps a divisor to (m, n)."""
    batch, height, width, channels = x.shape
    top, left, bottom, right = op.padding
    rows = sizes(height, op.kernel[0], op.stride[0], 1, top, bottom, op.ceil_mode)
    columns = sizes(width, op.kernel[1], op.stride[1], 1, left, right, op.ceil_mode)
    y = np.zeros((batch, len(rows), len(columns), channels), dtype=np.int64)
    for b, (r, row), (c, column), k in product(range(batch), enumerate(rows), enumerate(columns), range(channels)):
        acc = divisor = 0
        for p, q in product(range(row, row + op.kernel[0]), range(column, column + op.kernel[1])):
            inside = 0 <= p < height and 0 <= q < width
            padded = -top <= p < height + bottom and -left <= q < width + right
            acc += int(x[b, p, q, k]) - zero_x if inside else 0
            divisor += padded if op.count_include_pad else inside
        m, n = multipliers[divisor]
        y[b, r, c, k] = requantize(acc, m, n, zero, op.lo, op.hi)
    return y


def softmax(row: list[int], m: int, n: int) -> list[int]:
    """One row of stored integers."""
    powers = []
    for q in row:
        t = min(max(requantize(max(row) - q, m, n, 0, -(2**62), 2**62), 0), 2**13)
        powers.append(round(2**30 * 2 ** (-(t % 256) / 256)) // 2 ** (t // 256))
    total = sum(powers)
    return [min(32767, (e * 2**15 + total // 2) // total) for e in powers]


def log_softmax(row: list[int], op, zero: int) -> list[int]:
    """One row of stored integers, by the steps of the definition."""
    total = 0
    for q in row:
        t = min(max(requantize(max(row) - q, op.m, op.n, 0, -(2**62), 2**62), 0), 2**13)
        total += round(2**30 * 2 ** (-(t % 256) / 256)) // 2 ** (t // 256)
    k = total.bit_length() - 1
    f = total // 2 ** (k - 30) - 2**30
    i, r = f // 2**22, f // 2**6 % 65536
    here, there = (round(65536 * math.log2(1 + j / 256)) for j in (i, i + 1))
    log = (k - 30) * 65536 + here + ((there - here) * r + 2**15) // 65536
    return [requantize(-((max(row) - q) * op.m_in + log * op.m_log), 1, op.shift, zero, op.lo, op.hi) for q in row]
