"""Every format in every role that is not refused: quantized, packed, saved, loaded, equal in every executor."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import subbyte as sb
from subbyte.arithmetic import boundary
from subbyte.comparison import sqnr
from subbyte.errors import FormatError
from subbyte.formats import Format, PerChannel, fit_codebook, get_format, register_format, unregister_format
from subbyte.formats.refusals import REFUSALS, refused
from subbyte.graph.torch_executor import FloatExecutor
from subbyte.quantization.fake_quant import stored_values
from subbyte.runtime.modelfile import breakdown, from_bytes, to_bytes
from tests.e2e.executors import check_agreement
from tests.e2e.format_nets import BUILT_IN, LAYERS, ROLES, TABLES, float_net, quantized, samples, storage_net
from tests.limits import examples

ARITHMETICS = ("m31", "m15", "shift")
FAMILIES_AT_LEAST = (
    "int1",
    "int4",
    "int16",
    "fp6_e3m2",
    "fp8_e4m3fn",
    "uint2",
    "levels17",
    "ternary",
    "binary",
    "midrise2",
    "nf4",
    "fp130",
    "apot5",
)
"""Tried in every role in every run, whatever the scale."""


def some(role: str) -> list[str]:
    """All formats in a full run; else the fixed ones and a share of the others that differs from role to role."""
    stride = len(BUILT_IN) // examples(len(BUILT_IN))
    return list(dict.fromkeys((*FAMILIES_AT_LEAST, *BUILT_IN[list(ROLES).index(role) % stride :: stride])))


CASES = [(role, name) for role in ROLES for name in some(role)]


@pytest.mark.parametrize(("role", "name"), CASES)
def test_a_format_runs_or_is_refused(role, name):
    f = get_format(name)
    if refused(f, ROLES[role]):
        check_refused(role, f)
        return
    q = check_role(role, f, ARITHMETICS[f.levels % 3])
    least = least_sqnr(f)
    for output, decibels in fidelity(q, role, f).items():
        assert decibels > least, output


def check_role(role: str, f: Format, arithmetic: str) -> sb.QuantizedModel:
    """Quantize, and test all that must hold of a legal format."""
    q = quantized(role, f, arithmetic)
    x = samples(float_net(role, f), seed=2)[:3]
    codes = q.encode(x)
    values = check_agreement(q.graph, codes)
    check_presence(q, role, f, values)
    check_packing(q)
    data = to_bytes(q.graph, q.metadata)
    graph, metadata = from_bytes(data)
    assert to_bytes(graph, metadata) == data
    assert len(data) == q.nbytes
    loaded = sb.QuantizedModel(graph, metadata)
    for name, reals in as_dict(q, q(x)).items():
        np.testing.assert_array_equal(as_dict(q, loaded(x))[name], reals)
    return q


def as_dict(q: sb.QuantizedModel, result) -> dict[str, np.ndarray]:
    return result if isinstance(result, dict) else {q.graph.outputs[0]: result}


def check_presence(q, role, f, values) -> None:
    """The format is where the recipe wants it, and no value holds a code outside its format."""
    for name, kind in q.graph.types.items():
        assert np.isin(values[name], stored_values(kind.format)).all(), name
    layers = {n.name: n for n in q.graph if n.op.name in {"int_conv", "int_linear"}}
    if role in {"weight", "affine_weight"}:
        weights = [q.graph.constants[layers[name].inputs[1]] for name in LAYERS]
        assert {w.format.name for w in weights} == {f.name}
        assert all(len(np.unique(w.codes)) >= min(f.levels, 2) for w in weights)
        assert role == "weight" or f.levels > 128 or any(w.zero_point.any() for w in weights)
    elif role == "activation":
        operands = {q.graph.types[layers[name].inputs[0]].format.name for name in LAYERS}
        # The input has 256 levels already: a format of as many brings nothing, so the layer reads it as it is.
        assert operands == ({f.name, "uint8"} if f.levels >= 256 else {f.name})
    else:
        places = {"storage": ("relu", "pool", "c"), "input": ("x",), "output": q.graph.outputs[:1]}[role]
        assert {q.graph.types[name].format.name for name in places} == {f.name}


def check_packing(q) -> None:
    """Codes survive packing, and the file holds as many bytes of them as the format says."""
    stored = {part.constant: part.nbytes for part in breakdown(q.graph) if part.role == "codes"}
    for name, weight in q.graph.constants.items():
        if not isinstance(weight, np.ndarray):
            packed = weight.pack()
            assert len(packed) == weight.packed_size == stored[name]
            np.testing.assert_array_equal(weight.format.unpack(packed, weight.codes.size), weight.codes.reshape(-1))


def fidelity(q, role, f) -> dict[str, float]:
    """SQNR of every output against the float network, in decibels."""
    graph = float_net(role, f)
    x = samples(graph)
    exact = FloatExecutor(graph).run({"x": x})
    got = q.reference(q.encode(x))
    kinds = {name: q.graph.types[name] for name in graph.outputs}
    return {
        name: sqnr(exact[name].numpy(), boundary.dequantize(got[name], kind.scale, kind.zero_point))
        for name, kind in kinds.items()
    }


def least_sqnr(f: Format) -> float:
    """A uniform quantizer of smooth data gains 6 dB per bit, another table has what it reaches on normal reals.

    Four layers of it reach less, and 8 bits elsewhere bound it.
    """
    alone = 5.0 * math.log2(f.levels) if f.uniform else best_sqnr(f)
    return min(alone - 12.0, 20.0)


def best_sqnr(f: Format) -> float:
    """Of normal reals under the best of many scales, in decibels."""
    x = np.random.default_rng(0).normal(size=2000)
    scales = np.geomspace(0.5, 8.0, 40) / f.max_abs
    return max(sqnr(x, f.decode(f.encode(x, scale=s), scale=s)) for s in scales)


def check_refused(role: str, f: Format) -> None:
    """The error has four parts, says what the list says, and names a layer (or the recipe's input or output)."""
    line = refused(f, ROLES[role])
    with pytest.raises(FormatError) as caught:
        quantized(role, f)
    error = caught.value
    assert f.name in error.seen
    assert (error.rule, error.remedy) == (line.reason, line.remedy)
    places = {"storage": ("'a'", "'b'", "'c'"), "input": ("input of recipe",), "output": ("output of recipe",)}
    assert any(place in error.place for place in places.get(role, tuple(f"'{n}'" for n in LAYERS))), error.place


@settings(max_examples=examples(60))
@given(TABLES, st.sampled_from(ARITHMETICS))
def test_any_table_of_signed_bytes_runs_or_is_refused(table, arithmetic):
    own = register_format(Format(name="own", table=table))
    try:
        for role, judged in ROLES.items():
            if refused(own, judged):
                check_refused(role, own)
            else:
                check_role(role, own, arithmetic)
    finally:
        unregister_format("own")


@pytest.mark.parametrize(("entries", "largest"), [(5, 127), (16, 127), (200, 127), (256, 32767), (200, 2**24 - 1)])
def test_fitted_codebooks_run(entries, largest):
    """As weights, the layer that they were fitted to among them; of bytes, of 16 bits and of 24."""
    graph = float_net("weight", get_format("nf4"))
    fit = fit_codebook(graph.constants["w2"], entries, "own", granularity=PerChannel(0), largest=largest)
    own = register_format(fit.format)
    try:
        check_role("weight", own, "m31")
    finally:
        unregister_format("own")


@pytest.mark.parametrize(("entries", "largest"), [(5, 300), (255, 32767), (201, 2**24 - 1)])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_tables_beyond_bytes_are_activations(entries, largest, arithmetic):
    """Codes between layers: as few as five, as many as bytes have, as far apart as is allowed."""
    steep = np.linspace(-1, 1, entries) ** 3
    own = register_format(Format(name="own", table=np.unique(np.rint(largest * steep).astype(int)).tolist()))
    try:
        assert own.coded
        check_role("activation", own, arithmetic)
    finally:
        unregister_format("own")


@pytest.mark.parametrize("name", ["levels17", "binary", "fp6_e3m2", "fp8_e4m3fn"])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_sixteen_bit_values_become_operands(name, arithmetic):
    """By a rescale, of codes too, and where values of bytes have gaps by a rescale to bytes and a table."""
    graph = storage_net()
    rules = (sb.Rule(weights="int8", activations=name), sb.Rule(path="^[ab]$", storage="int16"))
    wanted = sb.Recipe(name="wide", rules=rules, first_input=name, last_input=name, input="int16")
    q = sb.quantize(graph, samples(graph), recipe=wanted, arithmetic=arithmetic)
    values = check_agreement(q.graph, q.encode(samples(graph, seed=2)[:3]))
    operands = {n.name: n.inputs[0] for n in q.graph if n.op.name in {"int_conv", "int_linear"}}
    assert len(operands) == 4
    for operand in operands.values():
        kind = q.graph.types[operand]
        assert kind.format.name == name
        assert np.isin(values[operand], stored_values(kind.format)).all()
        assert len(np.unique(values[operand])) > 1


def test_affine_bytes_that_leave_int8_name_their_layer():
    """The one refusal that depends on the numbers: lopsided 8-bit weights with zero points."""
    graph = storage_net()
    own = sb.Recipe(name="affine", rules=(sb.Rule(weights="uint8", symmetric=False),))
    with pytest.raises(FormatError, match="re-centred") as caught:
        sb.quantize(graph, samples(graph), recipe=own)
    assert "'a'" in caught.value.place


def test_the_reviewed_list():
    """Who is refused where, literally: a change of the list is a change of this test."""
    consecutive = {*(f"int{b}" for b in (*range(1, 9), 16)), *(f"uint{b}" for b in range(1, 9)), "ternary"}
    consecutive |= {name for name in BUILT_IN if name.startswith("levels")}
    consecutive |= {"pow2_e2"}
    gaps = {"binary", *(f"midrise{b}" for b in range(1, 6)), "nf4", "fp130", *(f"apot{b}" for b in range(3, 7))}
    gaps |= {*(f"pow2_e{k}" for k in range(3, 8)), *(f"pow2_e{k}_nozero" for k in range(2, 8))}
    storing = {f"{sign}dynamic{b}" for b in range(4, 9) for sign in ("", "u")}
    gaps |= {"fp4_e2m1", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3fn", "fp8_e5m2", *storing}
    assert consecutive | gaps == set(BUILT_IN)
    expected = {
        "weight": {"int16", "int1", "fp8_e5m2", *storing, *(f"uint{b}" for b in range(1, 9))},
        "affine_weight": {"int16", *gaps},
        "activation": {"fp8_e5m2", *storing},
        "storage": gaps,
    }
    uneven = "values that are not consecutive "
    uneven += "(binary, midrise<bits>, codebooks, powers of two, small floats, own tables)"
    neither = "a value outside 16 bits, and more than 256 values or none that is 0"
    found = {role: {name for name in BUILT_IN if refused(get_format(name), role)} for role in expected}
    assert found == expected
    assert [(line.role, line.operators, line.formats) for line in REFUSALS] == [
        *((role, (), "formats for storing alone (dynamic<bits>, udynamic<bits>)") for role in expected),
        *((role, (), "a value beyond 24 bits (fp8_e5m2)") for role in ("weight", "affine_weight")),
        ("activation", (), "a value beyond 24 bits (fp8_e5m2)"),
        ("activation", (), neither),
        ("storage", (), "a value beyond 24 bits (fp8_e5m2)"),
        ("storage", (), neither),
        ("weight", (), "more than 256 levels (int16)"),
        ("weight", (), "no negative or no positive value (uint<bits>, int1)"),
        ("affine_weight", (), "more than 256 levels (int16)"),
        ("affine_weight", (), uneven),
        ("activation", (), "not consecutive, and all values above 0 or below it"),
        ("storage", (), uneven),
    ]
