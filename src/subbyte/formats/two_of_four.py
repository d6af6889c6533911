"""Weights of which at most two in four are not 0, beside activations in the four versions of ``stc`` trims.

Hardware that skips pruned weights picks, for every output, the two inputs of four that meet a weight; these two are the
pair of a trim (the option ``--stc`` of Shomron et al. 2021's code). Every output sees other pairs, so each activation
comes in four versions (``trimmed`` of ``trims.py``), and each weight moves to the one beside its own partner.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.errors import FormatError
from subbyte.formats.qtensor import QTensor
from subbyte.formats.trims import QUAD

Array = npt.NDArray[Any]


def prune(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The weights [O, ..., C] without the two smallest of every four neighbouring inputs; of a tail, all but two."""
    fours = _fours(np.abs(weights))
    order = np.argsort(np.argsort(-fours, axis=-1, kind="stable"), axis=-1, kind="stable")
    kept = (order < 2).reshape(*weights.shape[:-1], -1)[..., : weights.shape[-1]]
    return np.where(kept, weights, np.float32(0))


def versions(integers: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """Which of its input's four versions each weight reads, shaped like the weights [O, ..., C].

    Raises:
        FormatError: three or four weights of a four are not 0.
    """
    used = _fours(integers != 0)
    most = int(used.sum(axis=-1).max())
    if most > 2:
        raise FormatError(
            f"{most} weights of four neighbouring inputs are not 0",
            "stc trims are for weights pruned 2:4, at most two in four",
            "prune the network 2:4 along the inputs and train it again, or use a trim that ends in _v",
        )
    read = np.full(used.shape, QUAD - 1)
    for step in range(1, QUAD):
        read = np.where(np.roll(used, -step, axis=-1), step - 1, read)
    return np.asarray(read.reshape(*integers.shape[:-1], -1)[..., : integers.shape[-1]])


def spread(weights: Array, read: npt.NDArray[np.int64], empty: Array) -> Array:
    """The weights [O, ..., C] at the versions that they read, [O, ..., 4 C].

    Args:
        weights: numbers or codes.
        read: as ``versions`` gives them.
        empty: what stands at all others, of each output [O] or of all [].
    """
    fill = np.broadcast_to(empty, weights.shape[:1]).reshape(-1, *(1,) * weights.ndim)
    places = np.broadcast_to(fill, (*weights.shape, QUAD)).astype(weights.dtype)
    np.put_along_axis(places, read[..., None], weights[..., None], axis=-1)
    return places.reshape(*weights.shape[:-1], QUAD * weights.shape[-1])


def spread_tensor(tensor: QTensor) -> QTensor:
    """The same of quantized weights, whose format has a zero.

    Raises:
        FormatError: the weights are not pruned 2:4, nothing in their format is a zero, or groups of inputs have scales.
    """
    if tensor.groups is not None:
        raise FormatError(
            "weights whose groups of inputs have scales of their own",
            "stc trims spread the inputs of a layer, and groups with them",
            "use one scale for each output channel, or a trim that ends in _v",
        )
    zeros = np.asarray(tensor.format.table) == tensor.zero_point.reshape(-1, 1)
    if not zeros.any(axis=1).all():
        raise FormatError(
            f"format {tensor.format.name!r} has no zero",
            "stc trims are for pruned weights, which are 0",
            "use a format with a zero such as int8, int4 or ternary",
        )
    codes = spread(tensor.codes, versions(tensor.integers()), zeros.argmax(axis=1))
    return replace(tensor, codes=codes)


def _fours(array: Array) -> Array:
    """[O, ..., fours, 4]; the last four of a row is filled with zeros."""
    filled = np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, -array.shape[-1] % QUAD)])
    return filled.reshape(*array.shape[:-1], -1, QUAD)
