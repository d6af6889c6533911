"""Models survive the file unchanged, and equal models are equal files."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

import subbyte.graph.ops as ops
from subbyte.errors import FormatError, LoweringError, ModelFileError, SubbyteError
from subbyte.formats import Format, get_format, register_format
from subbyte.formats.qtensor import QTensor
from subbyte.formats.registry import unregister_format
from subbyte.graph.ir import Graph
from subbyte.runtime.modelfile import breakdown, from_bytes, load_model_file, save_model, to_bytes
from subbyte.runtime.reference import run_reference
from tests.e2e.random_graphs import random_graph
from tests.limits import examples
from tests.runtime.small_models import METADATA, SIX, Builder, branched_model, codes_for, linear_model
from tests.runtime.tampering import join, split

MODELS = {"linear": linear_model, "branched": branched_model}


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


def test_file_is_valid_safetensors():
    graph = branched_model()
    tensors = safetensors.numpy.load(to_bytes(graph, METADATA))
    weight = graph.constants["stem.weight"]
    assert isinstance(weight, QTensor)
    assert np.array_equal(tensors["scale/stem.weight"], weight.scale)
    multipliers = [graph.constants[f"{node}.m"] for node in ("stem", "block", "sum", "avg", "fc", "side")]
    assert np.array_equal(tensors["integers/I32"], np.concatenate(multipliers))
    weights = [name for name, c in graph.constants.items() if isinstance(c, QTensor)]
    assert {f"codes/{name}" for name in weights} <= set(tensors)


def test_breakdown_is_the_file_to_the_byte():
    graph = branched_model()
    data = to_bytes(graph, METADATA)
    parts = breakdown(graph)
    assert len(data) == 8 + int.from_bytes(data[:8], "little") + sum(p.nbytes for p in parts)
    sizes = {(p.role, p.constant): p.nbytes for p in parts}
    assert len(sizes) == len(parts)
    assert sizes["codes", "fc.weight"] == 800 // 5  # ternary: five codes in a byte
    assert sizes["codes", "side.weight"] == 320 * 3 // 8
    assert sizes["integers", "stem.n"] == 4
    assert ("zero", "side.weight") in sizes
    assert ("zero", "fc.weight") not in sizes
    assert {p.node for p in parts if p.constant.startswith("fc.")} == {"fc"}


def told_scales(graph: Graph) -> np.ndarray:
    """What the multipliers of the linear model say that its weight's scales are."""
    x, y, m, n = graph.types["x"], graph.types["fc"], graph.constants["fc.m"], graph.constants["fc.n"]
    return np.float32(m * 2.0**-n * y.scale / x.scale)


@pytest.mark.parametrize("change", ["none", "one bit", "no multiplier", "per tensor"])
def test_scales_that_multipliers_tell_are_left_out(change):
    graph = linear_model()
    weight, m = graph.constants["fc.weight"], graph.constants["fc.m"]
    scale = told_scales(graph)
    if change == "one bit":
        scale[1] = np.nextafter(scale[1], np.float32(1))
    if change == "per tensor":
        weight, scale = dataclasses.replace(weight, zero_point=np.zeros((), np.int32)), scale[0].reshape(())
    if change == "no multiplier":
        m = m * np.array([1, 0, 1], np.int32)
    changes = {"fc.weight": dataclasses.replace(weight, scale=scale), "fc.m": m}
    graph = graph.evolve(constants={**graph.constants, **changes})
    data = to_bytes(graph, {})
    assert ("scale/fc.weight" in split(data)[0]) == (change != "none")
    loaded, _ = from_bytes(data)
    assert_same(graph, loaded)


def test_scales_that_multipliers_tell_are_not_written():
    graph = linear_model()
    scale = told_scales(graph)
    weight = dataclasses.replace(graph.constants["fc.weight"], scale=scale)
    outer, content, rest = split(to_bytes(graph.evolve(constants={**graph.constants, "fc.weight": weight}), {}))
    outer["scale/fc.weight"] = {"dtype": "F32", "shape": [3], "data_offsets": [len(rest), len(rest) + 12]}
    with pytest.raises(ModelFileError, match="differs"):
        from_bytes(join(outer, content, rest + scale.tobytes()))


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
