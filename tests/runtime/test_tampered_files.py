"""A damaged file is refused by its digest; one tampered with on purpose is refused by name, or it is a legal model."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from collections import Counter
from typing import Any

import numpy as np
import pytest

from subbyte.errors import FormatError, GraphError, LoweringError, ModelFileError
from subbyte.graph.ir import Graph
from subbyte.runtime.container import MAX_TEXT, seal
from subbyte.runtime.hints import HINTS
from subbyte.runtime.modelfile import from_bytes, to_bytes
from subbyte.runtime.reference import run_reference
from tests.limits import examples
from tests.runtime.small_models import (
    METADATA,
    branched_model,
    coded_model,
    codes_for,
    grouped_model,
    linear_model,
    scaleless_model,
    told_model,
)
from tests.runtime.tampering import header, join, split, tamper, with_header, with_packed

REFUSALS = (ModelFileError, GraphError, FormatError, LoweringError)
RUNNABLE = 2**18
"""Values per sample in the largest tensor that these tests run."""


@pytest.fixture(scope="module")
def data():
    return to_bytes(branched_model(), METADATA)


def test_raw_damage_is_refused(data):
    rng = random.Random(0)
    for _ in range(examples(1000)):
        changed = bytearray(data)
        way = rng.randrange(4)
        at = rng.randrange(len(data))
        if way == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            del changed[at:]
        elif way == 2:
            del changed[at : at + rng.randrange(1, 9)]
        else:
            changed[at:at] = rng.randbytes(rng.randrange(1, 9))
        with pytest.raises(ModelFileError):
            from_bytes(bytes(changed))


def test_truncation_at_every_byte_of_a_small_file_is_refused():
    small = to_bytes(linear_model(), {})
    step = max(1, round(len(small) / examples(len(small))))
    for size in range(0, len(small), step):
        with pytest.raises(ModelFileError):
            from_bytes(small[:size])


def test_tampered_files_are_refused_or_run(data):
    fates: Counter[str] = Counter()
    models = (told_model, grouped_model, coded_model, scaleless_model)
    honest = (data, *(to_bytes(make(), METADATA) for make in models))
    for seed in range(examples(1000)):
        try:
            graph, _ = from_bytes(tamper(honest[seed % 5], seed))
        except REFUSALS as error:
            fates[type(error).__name__] += 1
            fates["mute"] += not all([error.seen, error.rule, error.remedy])
        else:
            fates["accepted"] += 1
            fates["run"] += run(graph)
    assert not fates["mute"]
    assert fates["accepted"] >= examples(1000) // 20, fates
    assert fates["run"] > 0.7 * fates["accepted"], fates
    assert {"ModelFileError", "GraphError"} <= set(fates), fates


@pytest.mark.parametrize(
    ("group", "complaint"),
    [
        ([5, 0, 4, 0], "1..32768"),
        ([0, 0, 4, 1], "a group of"),
        ([2**24 + 1, 0, 4, 1], "integers in"),
        ([5, 2, 4, 1], "a group of"),
        ([5, 1, 4, 1], "logarithms|16 bits"),
        ([5, 0, 4, -2], "1..32768"),
        ([5, 0, 4, 2**15], "1..32768"),
        ([5, 0, 4], "2 integers"),
        ([5], "2 integers"),
        ("5", "integers"),
        ([6, 0, 4, 1], "bytes|bits"),
        ([3, 0, 4, 1], "payload|bits|bytes"),
        ([5, 0, 33, 1], "bits"),
        ([5, 0, 5, 1], "bits|bytes|payload"),
        ([True, 0, 4, 1], "integers"),
    ],
)
def test_false_groups(group, complaint):
    data = to_bytes(grouped_model(), METADATA)
    assert split(data)[0]["graph"]["nodes"][0]["inputs"][1]["group"] == [5, 0, 4, 1]
    with pytest.raises(REFUSALS, match=complaint):
        from_bytes(change(data, "graph nodes 0 inputs 1 group", group))


def test_powers_of_two_have_one_spelling():
    """As integers instead of logarithms they would say the same in other bytes."""
    data = to_bytes(grouped_model([1, 2]), METADATA)
    assert split(data)[0]["graph"]["nodes"][2]["inputs"][1]["group"] == [32, 1, 1, 0]
    with pytest.raises(ModelFileError, match="byte"):
        from_bytes(change(data, "graph nodes 2 inputs 1 group", [32, 0, 1, 1]))


def run(graph: Graph) -> bool:
    """Run a small graph on every executor at hand; they agree."""
    if any(np.prod([d or 1 for d in kind.shape], dtype=float) > RUNNABLE for kind in graph.types.values()):
        return False
    codes = codes_for(graph)
    expected = run_reference(graph, codes)
    engine = pytest.importorskip("subbyte.runtime.engine", reason="the native extension is not built")
    found = engine.Engine(graph).run(codes)
    for name in graph.outputs:
        assert np.array_equal(expected[name], found[name])
    return True


def change(data: bytes, path: str, value: object) -> bytes:
    """The file with one entry of its content replaced; the path's parts are separated by blanks."""
    content, rest = split(data)
    *holders, key = path.split()
    target: Any = content
    for holder in holders:
        target = target[int(holder)] if isinstance(target, list) else target[holder]
    target[int(key) if isinstance(target, list) else key] = value
    return join(content, rest)


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("extra", 1, "'extra' is unknown"),
        ("graph nodes 0 op", "int_conf", "int_conv"),
        ("graph nodes 0 op", "conv", "floats"),
        ("graph nodes 0 attributes stride", [1, True], "stride"),
        ("graph nodes 0 attributes stride", [1, 1.0], "stride"),
        ("graph nodes 0 attributes stride", [0, 1], "stride"),
        ("graph nodes 0 attributes stride", [1], "stride"),
        ("graph nodes 0 attributes stride", [1, 1], "byte"),
        ("graph nodes 0 attributes hi", 255, "byte"),
        ("graph nodes 0 attributes groups", 0, "groups"),
        ("graph nodes 0 attributes groups", 2, "groups"),
        ("graph nodes 0 attributes lo", 300, "lo"),
        ("graph nodes 0 attributes surprise", 1, "surprise"),
        ("graph nodes 4 attributes ceil_mode", 1, "ceil_mode"),
        ("graph nodes 6 attributes axis", 4, "axis"),
        ("graph nodes 6 attributes axis", 0, "axis"),
        ("graph nodes 7 attributes shape", [None, 4294967456], "(?s)shape|elements"),
        ("graph nodes 0 name", "a\x1b[31m", "printable"),
        ("graph nodes 0 name", "", "names are"),
        ("graph nodes 0 name", "block", "twice"),
        ("graph nodes 0 module", "a\u202eb", "printable"),
        ("graph name", "x" * 5000, "names are"),
        ("graph nodes 0 output", "image", "twice"),
        ("graph nodes 0 output", "stem", "byte"),
        ("graph nodes 1 inputs 0", "sum", "earlier"),
        ("graph nodes 1 inputs 0", "nowhere", "nowhere"),
        ("graph nodes 0 shape", [None, 8, 6, 4], "'shape' is unknown"),
        ("graph nodes 0 zero_point", 256, "zero"),
        ("graph nodes 0 scale", "0x1.0p-6", "hexadecimal"),
        ("graph nodes 0 scale", "-0x1p-6", "scale"),
        ("graph nodes 0 scale", "0x1p-900", "scale"),
        ("graph nodes 0 format", "int13", "int13"),
        ("graph inputs 0 shape", [1, 8, 6, 3], "null"),
        ("graph inputs 0 shape", [None, 0, 6, 3], "integers"),
        ("graph inputs 0 shape", [None, 8, 6, 2], "channels"),
        ("graph inputs 0 zero_point", 0, "byte"),
        ("graph inputs 0 name", "picture", "'image'"),
        ("graph inputs 0 name", "a\x1b", "printable"),
        ("graph nodes 0 inputs 1 shape", [4, 3, 3, 4], "codes"),
        ("graph nodes 0 inputs 1 shape", [4, 2**32, 2**32, 3], "integers"),
        ("graph nodes 0 inputs 1 axis", 1, "fit|padding"),
        ("graph nodes 0 inputs 1 axis", 9, "0..8"),
        ("graph nodes 0 inputs 1 axis", 0, "byte"),
        ("graph nodes 0 inputs 1 name", "stem.bias", "twice"),
        ("graph nodes 0 inputs 1", [1], "object"),
        ("graph nodes 0 inputs 1 scale", "0x1p-6", "fit|padding"),
        ("graph nodes 0 inputs 1 scale", [33, 0], "1..32"),
        ("graph nodes 0 inputs 1 scale", [26, 2**31], "integers"),
        ("graph nodes 0 inputs 1 zero", 1, "list"),
        ("graph nodes 0 inputs 2", {"shape": [4], "bits": [15, -9000], "as": "float32"}, "float32"),
        ("graph nodes 0 inputs 2", {"shape": [4], "bits": [15, -9000], "as": "int32"}, "padding|byte"),
        ("graph nodes 0 inputs 2", {"shape": [4], "bits": [15, -9000], "format": "int8"}, "'bits' is unknown"),
        ("graph nodes 0 inputs 2", {"shape": [4], "bits": [0, 7]}, "1..32"),
        ("graph nodes 0 inputs 2", {"shape": [4], "bits": [15]}, "2 integers"),
        ("graph nodes 0 inputs 2", {}, "'bits' is missing"),
        ("graph nodes 0 inputs 2 shape", [2, 2], "operand 2"),
        ("graph nodes 0 inputs 2 shape", [2**30], "left"),
        ("graph nodes 0 inputs 3 as", "int16", "int16"),
        ("graph nodes 0 inputs 3 bits 0", 12, "padding"),
        ("graph nodes 0 inputs 3", {"ratio": "m31"}, "padding|fit"),
        ("graph nodes 0 inputs 4", {"ratio": "m31"}, "both"),
        ("codes", -1, "integers"),
        ("codes", 10**6, "integers"),
        ("codes", True, "integers"),
        ("graph nodes 0 inputs 3", "stem.bias", "(?s)m|bias"),
        ("graph nodes", {}, "list"),
        ("graph inputs", [], "'image'"),
        ("graph outputs", ["soft", "soft"], "outputs"),
        ("graph outputs", ["side", "soft", "sum", "nothing"], "nothing"),
        ("formats levels17 consecutive", [-8, 9], "levels17"),
        ("formats six table", [-4, -2, -1, 0, 1, 1], "ascending"),
        ("formats six packing", "bits2", "levels"),
        ("formats six packing", "bits99", "bits99"),
        ("formats unused", {"consecutive": [0, 9]}, "byte"),
        ("formats uint8 packing", "bits8", "byte"),
        ("metadata arithmetic", "m30", "m30"),
        ("metadata recipe", "a\0b", "byte"),
    ],
)  # fmt: skip
def test_claims_are_checked(data, path, value, complaint):
    with pytest.raises(REFUSALS, match=complaint):
        from_bytes(change(data, path, value))


@pytest.mark.parametrize(
    ("position", "key", "value", "complaint"),
    [
        (3, "ratio", "m15", "byte"),
        (3, "ratio", "m30", "arithmetic"),
        (3, "ratio", ["m31"], "arithmetic"),
        (3, "moved", [1], "channel"),
        (3, "moved", [3, 5], "channel"),
        (3, "moved", [-1, 5], "channel"),
        (3, "moved", [1, 5, 1, 5], "channel"),
        (3, "moved", [1, 0], "byte"),
        (3, "moved", [1, 2**31 - 1], "int32"),
        (3, "times", "0x1p+0", "byte"),
        (3, "times", "0x0p+0", "ratio"),
        (3, "times", "inf", "ratio"),
        (3, "bits", [1, 1], "unknown"),
        (4, "ratio", "m15", "byte"),
        (4, "moved", [1, 3], "byte"),
        (5, "times", "0x1.999999999999ap-4", "byte"),
        (6, "ratio", None, "byte"),
    ],
)
def test_claims_about_multipliers_are_checked(position, key, value, complaint):
    told = to_bytes(told_model(), METADATA)
    content, _ = split(told)
    assert [sorted(e) for e in content["graph"]["nodes"][0]["inputs"][3:]] == [
        ["moved", "ratio"], ["ratio"], ["moved", "ratio", "times"], ["ratio"]
    ]  # fmt: skip
    with pytest.raises(REFUSALS, match=complaint):
        from_bytes(change(told, f"graph nodes 0 inputs {position} {key}", value))


def test_multipliers_need_a_weight_with_scales():
    content, rest = split(to_bytes(told_model(), METADATA))
    inputs = content["graph"]["nodes"][0]["inputs"]
    inputs[1] = inputs[2] = "x"
    with pytest.raises(ModelFileError, match="scales"):
        from_bytes(join(content, rest))


def test_constants_fill_the_payload(data):
    content, rest = split(data)
    with pytest.raises(ModelFileError, match="belong to no constant"):
        from_bytes(join(content, rest + b"\0"))
    with pytest.raises(ModelFileError, match="left"):
        from_bytes(join(content, rest[:-1]))
    content["codes"] += 1
    with pytest.raises(REFUSALS):
        from_bytes(join(content, rest))


def test_bits_of_integers_are_the_fewest(data):
    """One more bit per value than needed, and the right bytes for that."""
    content, rest = split(data)
    last = content["graph"]["nodes"][9]["inputs"][4]
    assert (last["shape"], last["bits"][0]) == ([2], 2)
    last["bits"][0] = 3
    twin = rest[:-1] + bytes([(rest[-1] & 3) | (rest[-1] & 12) << 1])
    with pytest.raises(ModelFileError, match="fewest bits"):
        from_bytes(join(content, twin))


def test_padding_bits_are_zero(data):
    content, rest = split(data)
    with pytest.raises(FormatError, match="padding"):
        from_bytes(join(content, rest[:-1] + bytes([rest[-1] | 128])))


def test_headers_have_one_spelling(data):
    text, rest = header(data), split(data)[1]
    assert with_header(text, rest) == data
    twins = {
        "a blank": text.replace(',"name"', ', "name"', 1),
        "a key twice": text.replace('{"codes":', '{"codes":1,"codes":', 1),
        "a number": text.replace('"shape":[2]', '"shape":[2.0]', 1),
        "an escape": text.replace('"fc"', '"\\u0066c"', 1),
        "NaN": text.replace('"shape":[2]', '"shape":[NaN]', 1),
        "depth": text.replace('"shape":[2]', '"shape":' + "[" * 100_000, 1),
        "some depth": text.replace('"shape":[2]', '"shape":' + "[" * 200 + "]" * 200, 1),
        "digits": text.replace('"shape":[2]', f'"shape":[{"9" * 10_000}]', 1),
        "padding": text + " " * 8,
    }
    for what, twin in twins.items():
        assert twin != text, what
        with pytest.raises(ModelFileError):
            from_bytes(with_header(twin, rest))


def packed(text: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, HINTS)
    return packer.compress(text) + packer.flush()


def test_a_small_file_cannot_become_a_large_header():
    bomb = packed(b" " * (1 << 26))
    assert len(bomb) < 1 << 17
    tracemalloc.start()
    for length in (100, MAX_TEXT, MAX_TEXT + 1, 1 << 26, 2**32 - 1):
        with pytest.raises(ModelFileError):
            from_bytes(with_packed(bomb, length, b""))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * MAX_TEXT


def test_packed_headers_are_checked(data):
    text, rest = header(data).encode(), split(data)[1]
    whole = packed(text)
    assert with_packed(whole, len(text), rest) == data
    for raw, length, complaint in (
        (whole, len(text) - 1, "unpacks to"),
        (whole, len(text) + 1, "unpacks to"),
        (whole + b"x", len(text), "unpacks to"),
        (whole[:-1], len(text), "unpacks to"),
        (b"\xff" + whole, len(text), "cannot be unpacked"),
        (zlib.compress(text), len(text), "unpack"),
        (b"", 0, "unpacks to"),
    ):
        with pytest.raises(ModelFileError, match=complaint):
            from_bytes(with_packed(raw, length, rest))
    if (len(whole) + 48) % 8:
        with pytest.raises(ModelFileError, match="zero"):
            from_bytes(with_packed(whole, len(text), rest, fill=b"\1"))
    far = bytearray(data)
    far[40:44] = (2**32 - 1).to_bytes(4, "little")
    with pytest.raises(ModelFileError, match="lengths"):
        from_bytes(seal(bytes(far)))


@pytest.mark.parametrize(
    ("at", "value", "complaint"), [(7, 1, "version 1"), (7, 3, "version 3"), (0, 83, "begins with")]
)
def test_other_versions_and_files_are_named(data, at, value, complaint):
    other = bytearray(data)
    other[at] = value
    with pytest.raises(ModelFileError, match=complaint):
        from_bytes(seal(bytes(other)))


def test_files_of_version_1_are_named():
    text = b'{"__metadata__":{"sha256":"' + b"0" * 64 + b'","subbyte":"{}"}}'
    with pytest.raises(ModelFileError, match="version 1") as caught:
        from_bytes(len(text).to_bytes(8, "little") + text)
    assert "again" in caught.value.remedy


def test_codes_have_one_spelling(data):
    content, rest = split(data)
    stop = content["codes"] - 2 * 160 * 3 // 8  # the codes of fc lie before those of side, the last
    for word in (243, 255):  # five ternary digits stay below 243
        with pytest.raises(FormatError):
            from_bytes(join(content, rest[: stop - 1] + bytes([word]) + rest[stop:]))


def test_accumulators_are_proved_again(data):
    """Weights are honest, the bias is not: the sum could leave int32."""
    bias = np.full(5, 2**31 - 1)
    content, rest = split(data)
    entry = content["graph"]["nodes"][8]["inputs"][2]
    bits, _ = entry["bits"]
    assert entry["shape"] == [5]
    entry["bits"][1] = int(bias[0]) - (2**bits - 1)
    with pytest.raises(LoweringError, match="fc"):
        from_bytes(join(content, rest))
