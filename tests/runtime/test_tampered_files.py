"""A damaged file is refused by its digest; one tampered with on purpose is refused by name, or it is a legal model."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from subbyte.errors import FormatError, GraphError, LoweringError, ModelFileError
from subbyte.graph.ir import Graph
from subbyte.runtime.modelfile import from_bytes, to_bytes
from subbyte.runtime.reference import run_reference
from tests.limits import examples
from tests.runtime.small_models import METADATA, branched_model, codes_for, linear_model
from tests.runtime.tampering import header, join, split, tamper, with_header

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
    for seed in range(examples(1000)):
        try:
            graph, _ = from_bytes(tamper(data, seed))
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
    outer, content, rest = split(data)
    *holders, key = path.split()
    target: Any = content
    for holder in holders:
        target = target[int(holder)] if isinstance(target, list) else target[holder]
    target[int(key) if isinstance(target, list) else key] = value
    return join(outer, content, rest)


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("version", 2, "version 2"),
        ("version", True, "version True"),
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
        ("graph nodes 0 name", "block", "24 bytes cannot be 108 codes"),
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
        ("graph nodes 0 inputs 1 axis", 1, "scale"),
        ("graph nodes 0 inputs 1 axis", 9, "0..8"),
        ("graph nodes 0 inputs 1 axis", 0, "byte"),
        ("graph nodes 0 inputs 1 name", "stem.bias", "twice"),
        ("graph nodes 0 inputs 1", [1], "object"),
        ("graph nodes 0 inputs 2", {"I16": [4], "as": "float32"}, "float32"),
        ("graph nodes 0 inputs 2", {"I16": [4], "as": "int32"}, "byte"),
        ("graph nodes 0 inputs 2", {"I16": [4], "U8": [4]}, "U8"),
        ("graph nodes 0 inputs 2", {"I64": [4]}, "I64"),
        ("graph nodes 0 inputs 2", {}, "format"),
        ("graph nodes 0 inputs 2", {"I16": [2, 2]}, "operand 2"),
        ("graph nodes 0 inputs 2", {"I16": [2**30]}, "elements"),
        ("graph nodes 0 inputs 3", {"I32": [4], "as": "int16"}, "fit"),
        ("graph nodes 0 inputs 3", {"I16": [4]}, "elements"),
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
    ("key", "field", "value"),
    [
        ("codes/fc.weight", "data_offsets", [0, 160]),
        ("codes/fc.weight", "data_offsets", [489, 10**12]),
        ("codes/fc.weight", "data_offsets", [649, 489]),
        ("codes/fc.weight", "data_offsets", [490, 650]),
        ("codes/fc.weight", "shape", [161]),
        ("codes/fc.weight", "shape", [2**32, 2**32 + 160]),
        ("codes/fc.weight", "shape", [1] * 9),
        ("codes/fc.weight", "dtype", "I64"),
        ("codes/fc.weight", "dtype", "I8"),
        ("codes/fc.weight", "extra", 1),
    ],
)
def test_entries_are_checked(data, key, field, value):
    outer, content, rest = split(data)
    outer[key][field] = value
    with pytest.raises(REFUSALS):
        from_bytes(join(outer, content, rest))


def test_tensors_fill_the_file(data):
    outer, content, rest = split(data)
    with pytest.raises(ModelFileError, match="belong to no tensor"):
        from_bytes(join(outer, content, rest + b"\0"))
    end = len(rest)
    outer["codes/spare"] = {"dtype": "U8", "shape": [1], "data_offsets": [end, end + 1]}
    with pytest.raises(ModelFileError, match="differs"):
        from_bytes(join(outer, content, rest + b"\0"))
    del outer["codes/spare"], outer["integers/U8"]
    with pytest.raises(ModelFileError):
        from_bytes(join(outer, content, rest))


def test_rows_of_integers_are_used_up(data):
    outer, content, rest = split(data)
    last = content["graph"]["nodes"][9]["inputs"]
    assert last[4] == {"U8": [2]}
    last[4] = {"U8": [3]}
    with pytest.raises(ModelFileError, match="elements"):
        from_bytes(join(outer, content, rest))
    last[4] = "fc.n"  # five channels instead of two
    with pytest.raises(GraphError):
        from_bytes(join(outer, content, rest))
    content["graph"]["nodes"][8]["inputs"][4] = last[4] = "side.m"
    with pytest.raises(ModelFileError):
        from_bytes(join(outer, content, rest))


def test_headers_have_one_spelling(data):
    text, rest = header(data), data[8 + int.from_bytes(data[:8], "little") :]
    assert with_header(text, rest) == data
    twins = {
        "a blank": text.replace(',"codes/', ', "codes/', 1),
        "a key twice": text.replace('"codes/fc.weight":', '"codes/fc.weight":1,"codes/fc.weight":', 1),
        "a content key twice": text.replace('{\\"formats\\":', '{\\"version\\":1,\\"formats\\":', 1),
        "a number": text.replace('"shape":[160]', '"shape":[160.0]', 1),
        "an escape": text.replace("codes/fc.weight", "\\u0063odes/fc.weight", 1),
        "NaN": text.replace('"shape":[160]', '"shape":[NaN]', 1),
        "depth": text.replace('"shape":[160]', '"shape":' + "[" * 100_000, 1),
        "some depth": text.replace('"shape":[160]', '"shape":' + "[" * 200 + "]" * 200, 1),
        "digits": text.replace('"shape":[160]', f'"shape":[{"9" * 10_000}]', 1),
        "padding": text + " " * 8,
    }
    for what, twin in twins.items():
        assert twin != text, what
        with pytest.raises(ModelFileError):
            from_bytes(with_header(twin, rest))


def test_codes_have_one_spelling(data):
    outer, content, rest = split(data)
    start, stop = outer["codes/fc.weight"]["data_offsets"]
    for word in (243, 255):  # five ternary digits stay below 243
        changed = rest[: stop - 1] + bytes([word]) + rest[stop:]
        assert stop > start
        with pytest.raises(FormatError):
            from_bytes(join(outer, content, changed))


def test_accumulators_are_proved_again(data):
    """Weights are honest, the bias is not: the sum could leave int32."""
    outer, content, rest = split(data)
    start, _ = outer["integers/I32"]["data_offsets"]
    at = start + 4 * (4 + 4 + 2 + 6)  # behind the multipliers of stem, block, sum and avg come the five of fc
    changed = rest[:at] + np.full(5, 2**31 - 1, "<i4").tobytes() + rest[at + 20 :]
    inputs = content["graph"]["nodes"][8]["inputs"]
    inputs[2], inputs[3] = inputs[3], inputs[2]
    with pytest.raises(LoweringError, match="fc"):
        from_bytes(join(outer, content, changed))
