"""Rescales in float32 give the same integers whatever the thread's rounding mode is, when built and when run."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from subbyte.formats.qtensor import QTensor
from subbyte.graph.ops.conv import IntConv
from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference
from tests.kernels import parity

MODES = {"down": 0x400, "up": 0x800, "to zero": 0xC00}
"""FE_DOWNWARD, FE_UPWARD and FE_TOWARDZERO of x86."""


@contextmanager
def rounding(mode: int) -> Iterator[None]:
    """The C library's rounding mode of this thread."""
    library = ctypes.CDLL(None)
    before = library.fegetround()
    assert library.fesetround(mode) == 0
    try:
        yield
    finally:
        library.fesetround(before)


def case(groups: int) -> parity.Case:
    """A 3x3 convolution of 16 channels whose results take all of uint8; depthwise with 16 groups."""
    rng = np.random.default_rng(groups)
    ones = np.ones(16, dtype=np.int32)
    weight = QTensor(
        codes=rng.integers(0, 256, (16, 3, 3, 16 // groups)).astype(np.uint8),
        format=parity.uniform(-128, 127),
        scale=ones.astype(np.float32),
        zero_point=0 * ones,
    )
    x, y = parity.kind((9, 9, 16), parity.UINT8, 9), parity.kind((9, 9, 16), parity.UINT8, 130)
    op = IntConv(stride=(1, 1), dilation=(1, 1), padding=(1, 1, 1, 1), groups=groups, lo=y.lo, hi=y.hi)
    shift = 38 if groups > 1 else 40
    constants = [weight, rng.integers(-999, 999, 16).astype(np.int32), ones << 30, shift * ones]
    graph = parity.one_op(op, [x], y, constants)
    return parity.Case(graph, {"x0": rng.integers(0, 256, (2, 9, 9, 16)).astype(np.uint8)})


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="rounding modes by their numbers on x86"
)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("groups", [1, 16])
def test_rounding_modes_change_nothing(mode: str, groups: int) -> None:
    wanted = case(groups)
    exact = run_reference(wanted.graph, wanted.codes)["y"]
    for isa in parity.ISAS:
        with parity.isa(isa), rounding(MODES[mode]):
            engine = Engine(wanted.graph)
            got = engine.run(wanted.codes)["y"]
        np.testing.assert_array_equal(got, exact, err_msg=isa)
