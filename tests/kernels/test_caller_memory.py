"""Arrays of the caller that operators read where they lie: no byte beyond them is touched."""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np
import pytest

from subbyte.formats.format import Format
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Graph
from subbyte.graph.ops.channel_stack import IntChannelStack
from subbyte.graph.ops.conv import IntConv
from subbyte.graph.ops.identity import Identity
from subbyte.graph.ops.linear_norm import IntLinearNorm
from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference
from tests.kernels import parity

PROT_NONE = 0


def guarded(x: parity.Array) -> parity.Array:
    """A copy that ends where a page begins that nobody may touch; there is one before it, too."""
    pages = -(-x.nbytes // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for page in (0, pages + 1):
        address, size = ctypes.c_void_p(start + page * mmap.PAGESIZE), ctypes.c_size_t(mmap.PAGESIZE)
        assert protect(address, size, PROT_NONE) == 0
    end = (pages + 1) * mmap.PAGESIZE
    view = np.frombuffer(memory, x.dtype, x.size, end - x.nbytes).reshape(x.shape)
    view[...] = x
    return view


def depthwise(channels: int, width: int, stride: int, padding: tuple[int, int, int, int]) -> Graph:
    """A 3x3 depthwise convolution of five rows."""
    rng = np.random.default_rng([channels, width, stride])
    out = [(size + padding[i] + padding[i + 2] - 3) // stride + 1 for i, size in enumerate((5, width))]
    weight = QTensor(
        codes=rng.integers(0, 256, (channels, 3, 3, 1)).astype(np.uint8),
        format=parity.uniform(-128, 127),
        scale=np.ones(channels, np.float32),
        zero_point=np.zeros(channels, np.int32),
    )
    m, n = rng.integers(2**30, 2**31 - 1, channels).astype(np.int32), np.full(channels, 41, np.int32)
    bias = rng.integers(-999, 999, channels).astype(np.int32)
    op = IntConv(stride=(stride, stride), dilation=(1, 1), padding=padding, groups=channels, lo=0, hi=255)
    x, y = parity.kind((5, width, channels), parity.UINT8, 77), parity.kind((*out, channels), parity.UINT8, 128)
    return parity.one_op(op, [x], y, [weight, bias, m, n])


@pytest.mark.skipif(sys.platform == "win32", reason="pages are guarded by mprotect")
@pytest.mark.parametrize("isa", parity.ISAS)
@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (0, 0, 0, 0), (0, 0, 1, 1), (3, 1, 4, 0), (1, 2, 1, 2)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [8, 16, 48, 64, 80, 96, 144])
def test_depthwise_reads_the_array_and_nothing_else(
    channels: int, stride: int, padding: tuple[int, int, int, int], isa: str
) -> None:
    for width in (3, 4, 8, 11):
        graph = depthwise(channels, width, stride, padding)
        codes = {"x0": guarded(np.random.default_rng(width).integers(0, 256, (2, 5, width, channels)).astype(np.uint8))}
        want = run_reference(graph, codes)["y"]
        with parity.isa(isa):
            engine = Engine(graph)
        for threads in (1, 2):
            np.testing.assert_array_equal(engine.run(codes, threads=threads)["y"], want)
        first = {"x0": codes["x0"][1:]}  # a single sample, whose rows the threads share
        np.testing.assert_array_equal(engine.run(first, threads=2)["y"], want[1:])
        np.testing.assert_array_equal(engine.run_all(codes)["y"], want)


@pytest.mark.skipif(sys.platform == "win32", reason="pages are guarded by mprotect")
@pytest.mark.parametrize("isa", parity.ISAS)
@pytest.mark.parametrize("depth", [1, 3, 31, 64, 65])
@pytest.mark.parametrize("storage", [parity.UINT8, parity.INT16])
def test_chains_without_scales_read_the_array_and_nothing_else(storage: Format, depth: int, isa: str) -> None:
    rng = np.random.default_rng(depth)
    weight = QTensor(
        codes=rng.integers(0, 3, (5, depth)).astype(np.uint8),
        format=parity.uniform(-1, 1),
        scale=np.ones(5, np.float32),
        zero_point=np.zeros(5, np.int32),
    )
    kind = parity.kind((depth,), storage)
    graph = parity.one_op(IntLinearNorm(hi=127), [kind], parity.kind((5,), parity.UINT8), [weight])
    codes = {"x0": guarded(rng.integers(0, 256, (3, depth)).astype(storage.storage))}
    with parity.isa(isa):
        engine = Engine(graph)
    np.testing.assert_array_equal(engine.run(codes)["y"], run_reference(graph, codes)["y"])


@pytest.mark.skipif(sys.platform == "win32", reason="pages are guarded by mprotect")
@pytest.mark.parametrize("isa", parity.ISAS)
@pytest.mark.parametrize("sides", [(4, 4), (5, 9), (16, 16)])
@pytest.mark.parametrize("storage", [parity.UINT8, parity.INT16])
def test_stacks_of_convolutions_read_the_image_and_nothing_else(storage: Format, sides: tuple, isa: str) -> None:
    rng = np.random.default_rng(sides[1])
    weight = QTensor(
        codes=rng.integers(0, 3, (5, 13)).astype(np.uint8),
        format=parity.uniform(-1, 1),
        scale=np.ones(5, np.float32),
        zero_point=np.zeros(5, np.int32),
    )
    op, kind = IntChannelStack(kernels=(3, 2), shifts=(2, 0), pools=(1, 1), hi=127), parity.kind(sides, storage)
    graph = parity.one_op(op, [kind], parity.kind(op.infer([kind, weight])[1:], parity.UINT8), [weight])
    codes = {"x0": guarded(rng.integers(0, 256, (3, *sides)).astype(storage.storage))}
    with parity.isa(isa):
        engine = Engine(graph)
    np.testing.assert_array_equal(engine.run(codes)["y"], run_reference(graph, codes)["y"])


@pytest.mark.skipif("avx512_vnni" not in parity.ISAS, reason="only these kernels make the border themselves")
def test_what_is_copied_is_known() -> None:
    same = (1, 1, 1, 1)
    for channels, copied in ((64, 0), (144, 0), (96, 5 * 9 * 96), (72, 5 * 9 * 72)):
        with parity.isa("avx512_vnni"):
            engine = Engine(depthwise(channels, 9, 1, same))
        rows = engine.profile({"x0": np.zeros((1, 5, 9, channels), np.uint8)}, repeats=1)
        assert rows[0].bytes_read == copied
        assert rows[-1].bytes_written == 0


def test_results_stay_when_inputs_change() -> None:
    """An input that is an output, too, is copied: the caller may write to either."""
    kind = parity.kind((6,), parity.UINT8)
    graph = parity.one_op(Identity(), [kind], kind)
    x = np.arange(6, dtype=np.uint8)[None]
    got = Engine(graph).run({"x0": x})["y"]
    x[:] = 99
    np.testing.assert_array_equal(got, np.arange(6)[None])


def test_numbers_that_are_read_in_place_are_checked() -> None:
    graph = depthwise(64, 9, 1, (1, 1, 1, 1))
    types = dict(graph.types)
    types["x0"] = parity.kind((5, 9, 64), parity.uniform(0, 100), 77)
    narrow = Graph(
        name="narrow",
        inputs=graph.inputs,
        outputs=graph.outputs,
        types=types,
        constants=graph.constants,
        nodes=graph.nodes,
    )
    x = np.full((2, 5, 9, 64), 100, np.uint8)
    x[1, 4, 8, 63] = 101
    with pytest.raises(Exception, match=r"0\.\.100"):
        Engine(narrow).run({"x0": x})
