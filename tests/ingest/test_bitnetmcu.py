"""Chains of the BitNetMCU kind: words written by hand, and the device's arithmetic in Python integers beside ours."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import subbyte as sb
from subbyte.errors import GraphError, IngestError, LoweringError, SubbyteError
from subbyte.formats import Format, get_format
from subbyte.formats.qtensor import QTensor
from subbyte.ingest.bitnetmcu import ENCODINGS, POWERS, Convolution, chain, unpack_words
from subbyte.ingest.bitnetmcu_header import read_header
from tests.e2e.executors import check_agreement

SIGNED = {2: lambda v: (abs(v) - 1) // 2, 4: lambda v: (abs(v) - 1) // 2, 20: lambda v: int(math.log2(abs(v)))}


def code_of(value: int, encoding: int) -> int:
    """What the exporter writes for one weight, from the documentation's table."""
    if encoding == 1:
        return int(value > 0)
    if encoding in SIGNED:
        bits = ENCODINGS[encoding].bits
        return (int(value < 0) << (bits - 1)) | SIGNED[encoding](value)
    if encoding == 64:
        return {1: 0, -1: 1, 0: 2}[value]
    return value % (1 << ENCODINGS[encoding].bits)


def write(weights: np.ndarray, encoding: int) -> list[int]:
    words = []
    for row in weights.tolist():
        codes = [code_of(v, encoding) for v in row]
        if encoding == 64:
            codes += [2] * (-len(codes) % 10)
            for i in range(0, len(codes), 10):
                number = 0
                for c in codes[i : i + 10]:
                    number = 3 * number + c
                words.append(-(-number * 65536 // 59049))
            continue
        bits = ENCODINGS[encoding].bits
        each = 32 // bits
        for i in range(0, len(codes), each):
            word = 0
            for c in codes[i : i + each]:
                word = word << bits | c
            words.append(word)
    return words


def shortened(acc: list[int]) -> list[int]:
    """The largest, a shift, half up, clipped at 127."""
    peak, shift = max(acc), 0
    while peak >> shift > 127:
        shift += 1
    return [min((max(a, 0) + ((1 << shift) >> 1)) >> shift, 127) for a in acc]


def on_the_device(x: list[int], layers: list[list[list[int]]]) -> int:
    """Products, shortened; the position in front of the last ReLU."""
    for weights in layers:
        acc = [sum(w * v for w, v in zip(row, x, strict=True)) for row in weights]
        position = acc.index(max(acc))
        x = shortened(acc)
    return position


def in_int32(number: int) -> int:
    """What 32 bits leave of it."""
    return (number + 2**31) % 2**32 - 2**31


def seen_by_the_device(image: list[int], side: int, windows: list[list[list[int]]], pools: list[int]) -> list[int]:
    """Channel by channel: 9 products, negative to 0, 4 bits dropped, the largest of 2 x 2; all of them shortened."""
    left = []
    for channel in range(len(windows[0])):
        v, size = image, side
        for window, pool in zip(windows, pools, strict=True):
            w, out = window[channel], []
            for i in range(size - 2):
                for j in range(size - 2):
                    acc = 0
                    for k in range(9):
                        acc = in_int32(acc + w[k] * v[(i + k // 3) * size + j + k % 3])
                    out.append(0 if acc < 0 else acc >> 4)
            v, size = out, size - 2
            if pool == 2:
                v = [
                    max(v[2 * i * size + 2 * j], v[2 * i * size + 2 * j + 1], *v[(2 * i + 1) * size + 2 * j :][:2])
                    for i in range(size // 2)
                    for j in range(size // 2)
                ]
                size //= 2
        left += v
    return shortened(left)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_words_there_and_back(encoding, rng) -> None:
    f = ENCODINGS[encoding].format
    for outputs, inputs in ((1, 32), (7, 64), (3, 160)):
        weights = rng.choice(f.integers, (outputs, inputs))
        words = np.array(write(weights, encoding), np.uint32)
        tensor = unpack_words(words, encoding, outputs, inputs)
        tensor.check()
        np.testing.assert_array_equal(tensor.integers(), weights)
    for value in f.integers.tolist():  # every value in every place of a word
        every = np.full((1, 160), value)
        np.testing.assert_array_equal(unpack_words(write(every, encoding), encoding, 1, 160).integers(), every)


def test_ternary_rows_may_end_within_a_word(rng) -> None:
    weights = rng.integers(-1, 2, (4, 33))
    words = write(weights, 64)
    assert len(words) == 4 * 4
    np.testing.assert_array_equal(unpack_words(words, 64, 4, 33).integers(), weights)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_net_runs_bit_for_bit(encoding, rng, tmp_path) -> None:
    """Three layers as on the device, in every executor, from memory and from a file."""
    f = ENCODINGS[encoding].format
    sizes = (64, 32, 32, 10)
    layers = [rng.choice(f.integers, (o, i)) for i, o in itertools.pairwise(sizes)]
    tensors = [unpack_words(write(w, encoding), encoding, *w.shape) for w in layers]
    q = sb.QuantizedModel(chain(tensors), {"source": "test"})
    x = rng.integers(-128, 128, (40, 64)).astype(np.float32)
    x[0], x[1], x[2] = 0, 127, -128
    wanted = [on_the_device([int(v) for v in row], [w.tolist() for w in layers]) for row in x]
    assert len(set(wanted)) > 3
    codes = q.encode(x)
    np.testing.assert_array_equal(check_agreement(q.graph, codes)["fc3"], wanted)
    answer = q(x)
    assert answer.dtype == np.int64
    np.testing.assert_array_equal(answer, wanted)
    q.save(tmp_path / "net.subbyte")
    loaded = sb.load(tmp_path / "net.subbyte")
    np.testing.assert_array_equal(loaded(x), wanted)
    assert [n.op for n in loaded.graph] == [n.op for n in q.graph]
    assert "fc1" in q.summary()


def test_mixed_encodings_and_weights_of_ones_own(rng) -> None:
    """FP1.3.0 as its training rounds it, and five levels that the device does not have."""
    reals = rng.normal(size=(16, 32))
    powers = POWERS.encode(reals * 40, rounding="log_floor")
    assert 128 in POWERS.integers[POWERS.encode([300.0], rounding="log_floor")]
    first = QTensor(codes=powers, format=POWERS, scale=np.ones(16, np.float32), zero_point=np.zeros(16, np.int32))
    second = rng.integers(-2, 3, (5, 16))
    five = get_format("levels5")
    own = QTensor(
        codes=(second + 2).astype(np.uint8),
        format=five,
        scale=np.float32(1).reshape(()),
        zero_point=np.int32(0).reshape(()),
    )
    q = sb.QuantizedModel(chain([first, own]), {})
    x = rng.integers(-128, 128, (30, 32)).astype(np.float32)
    wanted = [on_the_device([int(v) for v in r], [first.integers().tolist(), second.tolist()]) for r in x]
    np.testing.assert_array_equal(q(x), wanted)


def published(rng, channels: int, pools=(1, 2, 2), side: int = 16):
    """Random weights in the shapes of the published convolutional nets."""
    windows = [np.clip(rng.normal(0, 40, (channels, 9)), -128, 127).astype(int) for _ in pools]
    for pool in pools:
        side = (side - 2) // pool
    sizes = (channels * side * side, 96, 64, 10)
    encodings = (2 if sizes[0] % 16 == 0 else 64, 4, 4)
    shapes = [(e, o, i) for e, (i, o) in zip(encodings, itertools.pairwise(sizes), strict=True)]
    layers = [(e, rng.choice(ENCODINGS[e].format.integers, (o, i))) for e, o, i in shapes]
    return windows, layers


def images(rng, count: int, side: int = 16) -> np.ndarray:
    x = rng.integers(-128, 128, (count, side, side))
    x[0], x[1], x[2], x[3] = 0, 127, -128, np.where(np.indices((side, side)).sum(0) % 2, 127, -128)
    return x.astype(np.float32)


@pytest.mark.parametrize("channels", [16, 17, 1])
def test_convolutional_nets_run_bit_for_bit(channels, rng, tmp_path) -> None:
    windows, layers = published(rng, channels)
    linear = [unpack_words(write(w, e), e, *w.shape) for e, w in layers]
    convolutions = [Convolution(w.reshape(-1, 3, 3), pool) for w, pool in zip(windows, (1, 2, 2), strict=True)]
    q = sb.QuantizedModel(chain(linear, convolutions=convolutions), {"source": "test"})
    x = images(rng, 10)
    plain = [w.tolist() for w in windows]
    seen = [seen_by_the_device([int(v) for v in im.ravel()], 16, plain, [1, 2, 2]) for im in x]
    wanted = [on_the_device(numbers, [w.tolist() for _, w in layers]) for numbers in seen]
    values = check_agreement(q.graph, q.encode(x))
    np.testing.assert_array_equal(values["conv"], seen)
    np.testing.assert_array_equal(values["fc3"], wanted)
    np.testing.assert_array_equal(q(x), wanted)
    q.save(tmp_path / "net.subbyte")
    loaded = sb.load(tmp_path / "net.subbyte")
    np.testing.assert_array_equal(loaded(x), wanted)
    assert [n.op for n in loaded.graph] == [n.op for n in q.graph]
    assert "int_channel_stack" in q.summary()


def test_the_published_shape_never_wraps_around() -> None:
    """The largest sums of any int8 weights and images: -128 times -128 first, then 127 times what is left."""
    numbers = (unpack_words(write(np.ones((2, 16), int), 2), 2, 2, 16),)
    windows = [Convolution(np.full((4, 3, 3), w), pool) for w, pool in ((-128, 1), (127, 2), (127, 2))]
    graph = chain(numbers, convolutions=windows)
    largest = 9 * 128 * 128
    for _ in range(2):
        largest = 9 * 127 * (largest >> 4)
    assert graph.nodes[0].op.largest_sums([graph.operand(i) for i in graph.nodes[0].inputs]).tolist() == [largest] * 4
    deeper = [windows[0], windows[1], windows[2]._replace(pool=1), windows[2]._replace(pool=1)]
    with pytest.raises(LoweringError, match="stage 4 can reach"):
        chain(numbers, convolutions=deeper)
    with pytest.raises(LoweringError, match="stage 3 can reach"):
        chain(numbers, convolutions=[w._replace(shift=0) for w in windows])


def header(windows, layers, *, old: bool = False) -> str:
    """As the exporter writes it: sizes as definitions, or, before it had any, as variables."""
    lines, number, side = ["// generated", "#define NUM_LAYERS 8"], 2, 16
    for i, (w, pool) in enumerate(zip(windows, (1, 2, 2), strict=False)):
        sizes = {"type": "BitConv2d", "in_channels": len(w) if i else 1, "out_channels": len(w), "kernel_size": 3}
        sizes |= {"incoming_x": side, "incoming_y": side, "stride": 1, "padding": 0, "groups": len(w) if i else 1}
        lines += [f"#define L{number}_active", *(f"#define L{number}_{k} {v}" for k, v in sizes.items())]
        lines += [f"#define L{number}_bitperweight 8", f"const int8_t L{number}_weights[] = {{"]
        lines += ["\t" + ",".join(map(str, row)) + "," for row in w.tolist()] + ["};", ""]
        number, side = number + 2, (side - 2) // pool
        if pool > 1:
            lines += [f"#define L{number}_active", f"#define L{number}_type MaxPool2d"]
            lines += [f"#define L{number}_pool_size {pool}"]
            number += 1
    for encoding, w in layers:
        form = "uint32_t L{}_{} = {};" if old else "#define L{}_{} {} "
        sizes = {"bitperweight": encoding, "incoming_weights": w.shape[1], "outgoing_weights": w.shape[0]}
        lines += [form.format(number, *item) for item in sizes.items()]
        words = ",".join(hex(v) for v in write(w, encoding))
        lines += [f"const uint32_t L{number}_weights[] = {{{words},}}; //first channel is topmost bit, {{1, 2}}", ""]
        number += 2
    return "\n".join(lines)


@pytest.mark.parametrize("old", [False, True])
def test_headers_are_read(old, rng) -> None:
    windows, layers = published(rng, 16)
    linear = [unpack_words(write(w, e), e, *w.shape) for e, w in layers]
    convolutions = [Convolution(w.reshape(-1, 3, 3), pool) for w, pool in zip(windows, (1, 2, 2), strict=True)]
    wanted = sb.QuantizedModel(chain(linear, convolutions=convolutions), {})
    q = sb.QuantizedModel(read_header(header(windows, layers, old=old)), {})
    x = images(rng, 20)
    assert [n.op for n in q.graph] == [n.op for n in wanted.graph]
    np.testing.assert_array_equal(q(x), wanted(x))
    connected = sb.QuantizedModel(read_header(header([], layers, old=old)), {})
    numbers = rng.integers(-128, 128, (20, 64)).astype(np.float32)
    np.testing.assert_array_equal(connected(numbers), sb.QuantizedModel(chain(linear), {})(numbers))


def test_headers_that_are_refused(rng) -> None:
    windows, layers = published(rng, 16)
    good = header(windows, layers)
    read_header(good)
    for old, new in (
        ("L4_in_channels 16", "L4_in_channels 8"),
        ("L4_groups 16", "L4_groups 1"),
        ("L2_in_channels 1\n", "L2_in_channels 3\n"),
        ("L4_stride 1", "L4_stride 2"),
        ("L4_padding 0", "L4_padding 1"),
        ("L4_kernel_size 3", "L4_kernel_size 4"),
        ("L4_kernel_size 3", "L4_kernel_size 99999999"),
        ("L4_out_channels 16", ""),
        ("L4_type BitConv2d", "L4_type BitConv3d"),
        ("L4_type BitConv2d", "L4_type MaxPool2d"),
        ("L6_pool_size 2", "L6_pool_size many"),
        ("L6_pool_size 2", "L6_pool_size 0"),
        ("L6_pool_size 2", "L6_pool_size 20"),
        ("L4_weights[] = {", "L4_weights[] = {0,"),
        ("L4_weights[] = {", "L4_weights[] = {x,"),
        ("L2_incoming_x 16", "L2_incoming_x 4"),
        ("bitperweight 2 ", "bitperweight 36 "),
        ("outgoing_weights 96", "outgoing_weights 97"),
        ("incoming_weights 64", "incoming_weights 128"),
        ("uint32_t L", "float L"),
    ):
        assert old in good, old
        with pytest.raises(SubbyteError) as caught:
            read_header(good.replace(old, new))
        assert caught.value.remedy
    for text in ("", "int main() { return 0; }", "#define L1_weights {", " " * 2**24 + "x"):
        with pytest.raises(IngestError):
            read_header(text)


def test_convolutions_that_are_refused(rng) -> None:
    numbers = [unpack_words(write(rng.choice([-1, 1], (2, 32)), 1), 1, 2, 32)]
    for weights in (
        [np.zeros((2, 3, 3))],
        [np.zeros((2, 9), int)],
        [np.zeros((2, 3, 2), int)],
        [np.zeros((0, 3, 3), int)],
        [np.full((2, 3, 3), 128)],
        [np.zeros((2, 3, 3), int), np.zeros((3, 3, 3), int)],
    ):
        with pytest.raises(IngestError, match="convolutions"):
            chain(numbers, convolutions=[Convolution(w) for w in weights], image=(6, 6))
    fits = [Convolution(np.ones((2, 3, 3), int))]
    chain(numbers, convolutions=fits, image=(6, 6))
    with pytest.raises(IngestError, match="32"):
        chain(numbers, convolutions=fits, image=(7, 6))
    with pytest.raises(IngestError, match="one layer or more"):
        chain([], convolutions=fits)
    for changes in ({"shift": -1}, {"pool": 0}, {"pool": 5}, {"shift": 4.0}):
        with pytest.raises(GraphError):
            chain(numbers, convolutions=[fits[0]._replace(**changes)], image=(6, 6))


def test_what_is_refused(rng) -> None:
    with pytest.raises(IngestError, match="NF4"):
        unpack_words([0] * 4, 36, 1, 32)
    good = write(rng.choice([-1, 1], (2, 32)), 1)
    sizes = [(good, 3, 32), (good, 2, 31), (good[:1], 2, 32), ([], 0, 32)]
    for words, outputs, inputs in (*sizes, ([-1, 0], 2, 32), ([2**32, 0], 2, 32), ([0.5, 0.5], 2, 32)):
        with pytest.raises(IngestError, match="words"):
            unpack_words(words, 1, outputs, inputs)
    with pytest.raises(IngestError, match="words"):
        unpack_words([65536], 64, 1, 10)
    one = unpack_words(good, 1, 2, 32)
    for layers in ([], [one, one]):
        with pytest.raises(IngestError, match="chain"):
            chain(layers)
    wide = Format(name="wide", table=(-30_000, 30_000))
    ones = np.ones(1, np.float32)
    big = QTensor(codes=np.ones((1, 2000), np.uint8), format=wide, scale=ones, zero_point=np.zeros(1, np.int32))
    with pytest.raises(LoweringError, match="accumulator"):
        chain([big])
