"""Exact integer matrix products on floating-point hardware, and the rescale rule on torch tensors.

A sum of integer products is exact in float64 while every partial sum stays below 2**53, and in float32 below 2**24,
in whatever order it is taken; nothing here may therefore use Winograd, FFT, TF32 or bfloat16. Where float64 does not
hold it, integers are multiplied as int64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Whole = int | Tensor


def matmul(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """``a @ b`` of int64 arrays [..., P, K] and [..., K, O], exact: in float64 where that holds every partial sum."""
    bound = int(np.abs(a).max(initial=0)) * int(np.abs(b).max(initial=0)) * a.shape[-1]
    dtype = np.float64 if bound < 2**53 else np.int64
    return np.asarray(np.matmul(a.astype(dtype), b.astype(dtype)), dtype=np.int64)


def accumulator_dtype(bound: int, device: torch.device) -> torch.dtype:
    """float32 where partial sums up to ``bound`` are exact in it and torch keeps its full precision, else float64.

    Beyond float64 it is int64, whose products torch has on the CPU only; see ``product``.
    """
    import torch

    if bound >= 2**53:
        return torch.int64

    backend: Any = {"cpu": torch.backends.mkldnn, "cuda": torch.backends.cuda}.get(device.type)
    if bound >= 2**24 or backend is None or torch.is_autocast_enabled(device.type):
        return torch.float64
    settings = (getattr(getattr(backend, "matmul", None), "fp32_precision", "?"), _overall_precision())
    return torch.float32 if all(s in ("none", "ieee") for s in settings) else torch.float64


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b``, on the CPU where the numbers are integers: torch multiplies no matrices of int64 elsewhere."""
    if a.is_floating_point():
        return a @ b
    return (a.cpu() @ b.cpu()).to(a.device)


def _overall_precision() -> str:
    import torch

    return str(getattr(torch.backends, "fp32_precision", "?"))


def requantize(acc: Tensor, m: Whole, n: Whole, zero_point: int, lo: int, hi: int) -> Tensor:
    """``arithmetic.requant.requantize`` on an int64 tensor; m and n are ints or int64 tensors that broadcast."""
    return (zero_point + round_shift(acc * m, n)).clamp(lo, hi)


def nearest_codes(acc: Tensor, m: Whole, n: Whole, values: Tensor, lo: int, hi: int) -> Tensor:
    """``arithmetic.requant.nearest_codes`` on int64 tensors."""
    import torch

    twice = (acc * m) >> (n - 1)
    return torch.bucketize(twice.contiguous(), values[1:] + values[:-1], right=True).clamp(lo, hi)


def round_shift(product: Tensor, n: Whole) -> Tensor:
    """``(product + 2**(n - 1)) >> n`` on int64 tensors."""
    import torch

    half = 1 << (n - 1) if isinstance(n, int) else torch.ones_like(n) << (n - 1)
    return (product + half) >> n
