"""Models survive the file unchanged, and equal models are equal files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest

import subbyte.graph.ops as ops
from subbyte.arithmetic.requant import ARITHMETICS
from subbyte.errors import FormatError, LoweringError, ModelFileError, SubbyteError
from subbyte.formats import Format, get_format, register_format
from subbyte.formats.qtensor import QTensor
from subbyte.formats.registry import unregister_format
from subbyte.graph.ir import Graph
from subbyte.runtime import integers
from subbyte.runtime.hints import HINTS
from subbyte.runtime.modelfile import breakdown, budget, from_bytes, load_model_file, save_model, to_bytes
from subbyte.runtime.ratios import Ratio
from subbyte.runtime.reference import run_reference
from tests.e2e.random_graphs import random_graph
from tests.limits import examples
from tests.runtime.small_models import (
    METADATA,
    SIX,
    Builder,
    branched_model,
    codes_for,
    grouped_model,
    linear_model,
    rows_model,
    told_model,
)
from tests.runtime.tampering import join, split

MODELS = {
    "linear": linear_model,
    "branched": branched_model,
    "told": told_model,
    "grouped": grouped_model,
    "rows": rows_model,
}


def assert_same(a: Graph, b: Graph) -> None:
    assert (a.name, a.inputs, a.outputs, a.nodes) == (b.name, b.inputs, b.outputs, b.nodes)
    assert dict(a.types) == dict(b.types)
    assert set(a.constants) == set(b.constants)
    for name, mine in a.constants.items():
        other = b.constants[name]
        assert type(mine) is type(other)
        pairs = [(mine, other)]
        if isinstance(mine, QTensor):
            assert isinstance(other, QTensor)
            assert (mine.format, mine.axis) == (other.format, other.axis)
            pairs = [(mine.codes, other.codes), (mine.scale, other.scale), (mine.zero_point, other.zero_point)]
            assert (mine.groups is None) == (other.groups is None)
            if mine.groups is not None and other.groups is not None:
                assert mine.groups.size == other.groups.size
                pairs.append((mine.groups.scale, other.groups.scale))
        for x, y in pairs:
            assert x.dtype == y.dtype
            assert np.array_equal(x, y)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_round_trip(make, tmp_path):
    graph, path = make(), tmp_path / "m.subbyte"
    size = save_model(path, graph, METADATA)
    assert size == path.stat().st_size
    loaded, metadata = load_model_file(path)
    assert_same(graph, loaded)
    assert metadata == METADATA
    before, after = (run_reference(g, codes_for(g)) for g in (graph, loaded))
    for name in graph.outputs:
        assert np.array_equal(before[name], after[name])


def test_group_scales_take_the_fewest_bits():
    parts = {(p.node, p.role): p for p in breakdown(grouped_model())}
    assert parts["conv", "group_scale"].nbytes == 6  # 4 channels of 3 groups, 1..15: 4 bits
    assert parts["conv", "zero"].nbytes == 2  # -1 or 0
    assert parts["fc", "group_scale"].nbytes == 2  # 3 channels of 2 blocks, exponents 0..3: 2 bits
    assert ("fc", "zero") not in parts
    graph = grouped_model()
    plain = {
        name: dataclasses.replace(c, groups=None, zero_point=np.zeros(c.scale.shape, np.int32))
        if isinstance(c, QTensor)
        else c
        for name, c in graph.constants.items()
    }
    without = to_bytes(graph.evolve(constants=plain), {})
    assert 10 <= len(to_bytes(graph, {})) - len(without) < 60


def test_scales_that_are_powers_of_two_take_the_bits_of_their_exponents():
    graph = grouped_model()
    weight = graph.constants["conv.weight"]
    assert isinstance(weight, QTensor)
    powers = dataclasses.replace(weight, scale=np.float32([2.0**-126, 2.0**127, 0.5, 8.0]))
    graph = graph.evolve(constants={**graph.constants, "conv.weight": powers})
    data = to_bytes(graph, {})
    entry = split(data)[0]["graph"]["nodes"][0]["inputs"][1]
    assert entry["scale"] == [8, 1, 23]
    loaded, _ = from_bytes(data)
    assert_same(graph, loaded)
    content, payload = split(data)
    for false in ([8, 1, 24], [8, 1, -1], [8, 1, 40], [8, 0, 23], [8, 1, 0], [8, 1, 23, 0], [8, 1, 23.0], [8]):
        content["graph"]["nodes"][0]["inputs"][1]["scale"] = false
        with pytest.raises(SubbyteError):
            from_bytes(join(content, payload))


@pytest.mark.parametrize("seed", range(examples(50)))
def test_round_trip_of_random_graphs(seed):
    graph = random_graph(seed, length=8)
    data = to_bytes(graph, {})
    loaded, _ = from_bytes(data)
    assert_same(graph, loaded)
    assert to_bytes(loaded, {}) == data


def test_same_model_same_bytes():
    data = to_bytes(branched_model(), METADATA)
    assert to_bytes(branched_model(), dict(reversed(METADATA.items()))) == data
    graph = branched_model()
    shuffled = graph.evolve(
        types=dict(reversed(list(graph.types.items()))), constants=dict(reversed(list(graph.constants.items())))
    )
    assert to_bytes(shuffled, METADATA) == data
    assert to_bytes(branched_model(seed=1), METADATA) != data


def test_same_bytes_in_another_process():
    program = (
        "import hashlib; from subbyte.runtime.modelfile import to_bytes;"
        "from tests.runtime.small_models import METADATA, branched_model;"
        "print(hashlib.sha256(to_bytes(branched_model(), METADATA)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            check=True,
            text=True,
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_file_is_laid_out_as_documented():
    """Read by the words of docs/model_file.md, with nothing of the program but the hints."""
    graph = branched_model()
    data = to_bytes(graph, METADATA)
    magic, version, digest, packed, length = struct.unpack_from("<7sB32sII", data)
    assert (magic, version) == (b"subbyte", 2)
    assert hashlib.sha256(data[:8] + bytes(32) + data[40:]).digest() == digest
    text = zlib.decompressobj(-15, zdict=HINTS).decompress(data[48 : 48 + packed])
    content = json.loads(text)
    assert len(text) == length
    payload = data[-(-(48 + packed) // 8) * 8 :]
    codes, rest = payload[: content["codes"]], payload[content["codes"] :]
    weights = [c for n in graph for c in map(graph.constants.get, n.inputs) if isinstance(c, QTensor)]
    assert codes == b"".join(w.pack() for w in weights)
    stem = content["graph"]["nodes"][0]["inputs"]
    bits, least = stem[1]["scale"]  # the first integers of the payload: the bits of four float32
    stream = int.from_bytes(rest[: (4 * bits + 7) // 8], "little")
    values = [least + (stream >> i * bits & (1 << bits) - 1) for i in range(4)]
    assert np.array_equal(np.array(values, np.int32).view(np.float32), graph.constants["stem.weight"].scale)


def test_breakdown_is_the_file_to_the_byte():
    graph = branched_model()
    data = to_bytes(graph, METADATA)
    parts = breakdown(graph)
    packed = int.from_bytes(data[40:44], "little")
    assert len(data) == -(-(48 + packed) // 8) * 8 + sum(p.nbytes for p in parts)
    sizes = {(p.role, p.constant): p.nbytes for p in parts}
    assert len(sizes) == len(parts)
    assert sizes["codes", "fc.weight"] == 800 // 5  # ternary: five codes in a byte
    assert sizes["codes", "side.weight"] == 320 * 3 // 8
    assert sizes["n", "stem.n"] == 1  # 36..39: two bits each
    assert sizes["zero", "side.weight"] == 1
    assert ("zero", "fc.weight") not in sizes
    assert {p.node for p in parts if p.constant.startswith("fc.")} == {"fc"}
    shares = budget(parts, len(data))
    assert sum(shares.values()) == len(data)
    assert shares["weights"] == sum(p.nbytes for p in parts if p.role == "codes")
    assert shares["biases"] == sum(p.nbytes for p in parts if p.constant.endswith(".bias"))
    assert shares["tables"] == 256


@pytest.mark.parametrize("change", ["none", "one", "far", "shift", "no multiplier", "channels", "slope"])
def test_multipliers_that_scales_tell_are_left_out(change):
    """Moved by little is told too; anything else is stored."""
    graph = told_model()
    constants = dict(graph.constants)
    if change in {"one", "far"}:
        constants["leaky.m"] = constants["leaky.m"] + np.array([0, 0, 5 if change == "one" else 300], np.int32)
    if change == "shift":
        constants["leaky.n"] = constants["leaky.n"] + np.array([0, 1, 0], np.int32)
    if change == "no multiplier":
        constants["leaky.m"] = constants["leaky.m"] * np.array([1, 0, 1], np.int32)
    if change == "slope":
        constants["leaky.m_neg"] = -constants["leaky.m_neg"]
    if change == "channels":
        weight = constants["leaky.weight"]
        constants["leaky.weight"] = dataclasses.replace(
            weight, axis=1, scale=np.linspace(0.1, 0.2, 6, dtype=np.float32), zero_point=np.zeros(6, np.int32)
        )
    changed = graph.evolve(constants=constants)
    data = to_bytes(changed, {})
    loaded, _ = from_bytes(data)
    assert_same(changed, loaded)
    told = {p.constant for p in breakdown(changed) if p.format == "ratio"}
    last = {"last.m", "last.n"}
    above, below = {"leaky.m", "leaky.n"}, {"leaky.m_neg", "leaky.n_neg"}
    expected = {
        "none": above | below, "one": above | below, "slope": above | below, "channels": set(),
        "far": below, "shift": below, "no multiplier": below,
    }  # fmt: skip
    assert told == last | expected[change]


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_multipliers_of_every_arithmetic_are_told(arithmetic):
    graph = linear_model()
    weight = dataclasses.replace(graph.constants["fc.weight"], scale=np.float32([0.5, 2.0**-9, 2.0**-70]))
    m, n = Ratio(arithmetic).pairs(weight, (graph.types["x"].scale, graph.types["fc"].scale))
    assert (m[2], n[2]) == (0, 1)
    graph = graph.evolve(constants={**graph.constants, "fc.weight": weight, "fc.m": m, "fc.n": n})
    assert {p.constant for p in breakdown(graph) if p.format == "ratio"} == {"fc.m", "fc.n"}
    assert_same(graph, from_bytes(to_bytes(graph, {}))[0])


def test_multipliers_that_scales_tell_are_not_written():
    """The same multipliers, spelled out."""
    graph = told_model()
    content, rest = split(to_bytes(graph, {}))
    inputs = content["graph"]["nodes"][1]["inputs"]
    for at, name in ((3, "last.m"), (4, "last.n")):
        bits, least = integers.span(graph.constants[name])
        inputs[at] = {"shape": [2], "bits": [bits, least]}
        rest += integers.pack(graph.constants[name], bits, least)
    with pytest.raises(ModelFileError, match="differs"):
        from_bytes(join(content, rest))


def test_constants_are_shared_and_unread_ones_left_out():
    """Two layers of one weight; their own multipliers differ, so the first tells the scales."""
    b = Builder("shared")
    x = b.input("x", [5])
    w = b.weight("both.weight", (5, 5), get_format("int4"))
    first = b.layer("first", ops.IntLinear(lo=0, hi=255), x, w)
    graph = b.graph(b.layer("second", ops.IntLinear(lo=0, hi=255), first, w))
    loaded, _ = from_bytes(to_bytes(graph, {}))
    assert_same(graph, loaded)
    spare = graph.evolve(constants={**graph.constants, "spare": np.arange(9, dtype=np.int32)})
    assert to_bytes(spare, {}) == to_bytes(graph, {})


def test_loading_and_running_needs_neither_torch_nor_onnx(tmp_path):
    path = tmp_path / "m.subbyte"
    save_model(path, branched_model(), METADATA)
    program = """
import sys
import numpy as np
from subbyte.runtime.modelfile import load_model_file
from subbyte.runtime.ratios import Ratio
from subbyte.runtime.reference import run_reference
graph, _ = load_model_file(sys.argv[1])
run_reference(graph, {"image": np.zeros((1, 8, 6, 3), np.uint8)})
heavy = {"torch", "onnx", "onnx_ir", "onnxruntime", "scipy", "rich", "cyclopts"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_users_format_travels_in_the_file():
    loaded, _ = from_bytes(to_bytes(branched_model(), METADATA))
    weight = loaded.constants["block.weight"]
    assert isinstance(weight, QTensor)
    assert (weight.format.name, tuple(weight.format.table)) == ("six", SIX.table)


def test_format_of_the_same_name_must_have_the_same_table():
    data = to_bytes(branched_model(), METADATA)
    register_format(Format(name="six", table=(-5, -2, -1, 0, 1, 2)))
    try:
        with pytest.raises(FormatError, match="six"):
            from_bytes(data)
    finally:
        unregister_format("six")


def test_two_formats_of_one_name_cannot_be_saved():
    graph = branched_model()
    other = Format(name="ternary6", table=(-2, 0, 2))
    weight = graph.constants["stem.weight"]
    assert isinstance(weight, QTensor)
    clash, zero = Format(name="ternary6", table=(-3, 0, 3)), weight.zero_point
    tensors = [
        QTensor(codes=graph.constants[f"{node}.weight"].codes % 3, format=f, scale=weight.scale, zero_point=zero)
        for node, f in (("stem", other), ("block", clash))
    ]
    constants = {**graph.constants, "stem.weight": tensors[0], "block.weight": tensors[1]}
    with pytest.raises(FormatError, match="ternary6"):
        to_bytes(graph.evolve(constants=constants), METADATA)


def test_what_cannot_be_loaded_is_not_saved(tmp_path):
    graph = branched_model()
    broken = graph.evolve(constants={**graph.constants, "fc.bias": np.full(5, 2**31 - 1, np.int32)})
    with pytest.raises(LoweringError, match="fc"):
        save_model(tmp_path / "m.subbyte", broken, METADATA)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "metadata",
    [
        {"arithmetic": "m16"},
        {"x": float("inf")},
        {"x": np.int32(3)},
        {"x": b"bytes"},
        {"x": {1: 2}},
        {"x": [[[[[[[1]]]]]]]},
        {"x": 2**70},
    ],
    ids=str,
)
def test_metadata_that_json_cannot_say_is_refused(metadata):
    with pytest.raises(ModelFileError):
        to_bytes(linear_model(), metadata)


@pytest.mark.parametrize("what", ["missing", "folder", "empty", "text"])
def test_files_that_are_no_models(what, tmp_path):
    path = tmp_path / "m.subbyte"
    if what == "folder":
        path.mkdir()
    elif what != "missing":
        path.write_bytes(b"" if what == "empty" else b"hello " * 100)
    with pytest.raises(ModelFileError) as caught:
        load_model_file(path)
    error = caught.value
    assert all([error.seen, error.rule, error.remedy, "m.subbyte" in error.place])


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "m.subbyte"
    data = bytearray(to_bytes(linear_model(), {}))
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(SubbyteError, match=r"SHA-256(.|\n)*m\.subbyte"):
        load_model_file(path)
