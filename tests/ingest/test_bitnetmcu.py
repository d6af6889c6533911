"""Chains of the BitNetMCU kind: words written by hand, and the device's arithmetic in Python integers beside ours."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import subbyte as sb
from subbyte.errors import IngestError, LoweringError
from subbyte.formats import Format, get_format
from subbyte.formats.qtensor import QTensor
from subbyte.ingest.bitnetmcu import ENCODINGS, POWERS, chain, unpack_words
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


def on_the_device(x: list[int], layers: list[list[list[int]]]) -> int:
    """Products, the largest, a shift, half up, clipped at 127; the position in front of the last ReLU."""
    for weights in layers:
        acc = [sum(w * v for w, v in zip(row, x, strict=True)) for row in weights]
        position, peak, shift = acc.index(max(acc)), max(acc), 0
        while peak >> shift > 127:
            shift += 1
        x = [min((max(a, 0) + ((1 << shift) >> 1)) >> shift, 127) for a in acc]
    return position


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
