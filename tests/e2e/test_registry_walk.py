"""The registry from end to end: every listed format at every granularity that its card claims, and every card's facts.

Roles, refusals and arithmetics are walked by ``test_every_format.py``; here what a card says is taken at its word.
"""

from __future__ import annotations

import numpy as np
import pytest

import subbyte as sb
from subbyte.formats import Format, formats, get_granularity, quantize_weight
from subbyte.formats.cards import Card, card, cards
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Graph
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.reshape import Reshape
from subbyte.runtime.modelfile import from_bytes, to_bytes
from tests.e2e.executors import check_agreement
from tests.quantization.nets import Net

CLAIMS = [(c.name, granularity) for c in cards() for granularity in c.granularity]
"""What is said to run."""

SHAPE = (5, 3, 3, 3)


def test_something_is_claimed() -> None:
    """A walk of nothing would pass."""
    claimed = {name for name, _ in CLAIMS}
    assert {"int4", "uint4", "levels17", "ternary", "binary", "nf4", "fp4_e2m1", "apot5", "pow2_e4"} <= claimed
    assert {granularity for _, granularity in CLAIMS} >= {
        "per_tensor",
        "per_channel",
        "per_group(32)",
        "dual_grained(64)",
        "mx",
    }
    assert claimed == {c.name for c in cards() if not c.weights.startswith("no")}
    assert all(c.runs for c in cards() if c.name in claimed)


@pytest.mark.parametrize(("name", "granularity"), CLAIMS)
def test_quantize_pack_unpack_dequantize_and_run(name: str, granularity: str) -> None:
    c, f = card(name), sb.get_format(name)
    symmetric = c.weights == "yes"
    weight = weights(f)
    tensor = quantize_weight(weight, f, get_granularity(granularity), "mse", symmetric=symmetric)
    check_codes(tensor, weight)

    graph = net(weight)
    x = np.random.default_rng(3).normal(0.2, 1.0, (16, 3, 5, 5)).astype(np.float32)
    rule = sb.Rule(weights=name, granularity=granularity, symmetric=symmetric)
    recipe = sb.Recipe(name="walk", rules=(rule,), methods=())
    q = sb.quantize(graph, x, recipe=recipe, samples=len(x))
    layers = [q.graph.constants[n.inputs[1]] for n in q.graph if n.op.name in {"int_conv", "int_linear"}]
    assert [layer.format.name for layer in layers] == [name, name]
    for layer in layers:
        shapes = {"per_tensor": (), "per_channel": layer.shape[:1]}
        assert layer.scale.shape == shapes.get(granularity, layer.scale.shape)
        back = f.unpack(layer.pack(), layer.codes.size).reshape(layer.shape)
        np.testing.assert_array_equal(back, layer.codes)
    again, _ = from_bytes(to_bytes(q.graph, q.metadata))
    codes = q.encode(x[:3])
    expected = check_agreement(q.graph, codes)
    for output in q.graph.outputs:
        assert len(np.unique(expected[output])) > 1
        np.testing.assert_array_equal(check_agreement(again, codes)[output], expected[output])


OPERANDS = [(c.name, granularity) for c in cards() for granularity in c.operand_granularity]


@pytest.mark.parametrize(("name", "granularity"), OPERANDS)
def test_operands_at_every_granularity_run(name: str, granularity: str) -> None:
    """Scales per token belong to linear layers, so that the network's other layer keeps its own."""
    graph = net(weights(sb.get_format("int8")))
    x = np.random.default_rng(3).normal(0.2, 1.0, (16, 3, 5, 5)).astype(np.float32)
    rules = (sb.Rule(), sb.Rule(operator=("linear",), activations=name, activation_granularity=granularity))
    q = sb.quantize(graph, x, recipe=sb.Recipe(name="walk", rules=rules, last_input=name, methods=()), samples=len(x))
    assert any(n.op.name == "int_linear_per_token" for n in q.graph) == (granularity == "per_token")
    again, _ = from_bytes(to_bytes(q.graph, q.metadata))
    codes = q.encode(x[:3])
    expected = check_agreement(q.graph, codes)
    for output in q.graph.outputs:
        assert len(np.unique(expected[output])) > 1
        np.testing.assert_array_equal(check_agreement(again, codes)[output], expected[output])


def test_both_granularities_of_operands_are_claimed() -> None:
    assert {"per_tensor", "per_token"} == {granularity for _, granularity in OPERANDS}
    assert {"uint8", "int8", "uint4", "levels31"} <= {name for name, g in OPERANDS if g == "per_token"}


def check_codes(tensor: QTensor, weight: np.ndarray) -> None:
    """Packed and unpacked codes mean, by the definition written out, what ``dequantize`` says."""
    f = tensor.format
    data = tensor.pack()
    assert len(data) == tensor.packed_size == f.packed_size(weight.size)
    codes = f.unpack(data, weight.size).reshape(weight.shape)
    np.testing.assert_array_equal(codes, tensor.codes)
    reals = tensor.dequantize()
    scale = np.broadcast_to(tensor.scale, len(weight)).tolist()
    groups, zero = tensor.groups, tensor.zero_point
    for at, i in enumerate(np.ndindex(weight.shape)):
        if groups is None:
            m, z = 1, int(zero[i[0]] if zero.ndim else zero)
        else:
            m, z = (int(v[i[0], at % weight[0].size // groups.size]) for v in (groups.scale, zero))
        assert reals[i] == np.float32(scale[i[0]] * (m * (int(f.integers[codes[i]]) - z)))
    assert np.square(reals - weight).mean() < np.square(weight).mean()


def weights(f: Format) -> np.ndarray:
    """Normal, a little lopsided; as far down as up where re-centred bytes must fit."""
    w = np.random.default_rng(f.levels).normal(0.02, 0.2, SHAPE).astype(np.float32)
    if f.levels > 128:
        w[:, 0, 0, 0], w[:, 0, 0, 1] = 1.0, -1.0
    return w


def net(weight: np.ndarray) -> Graph:
    """A padded convolution with these weights, and a linear layer."""
    made = Net(3, 5, 5)
    made.add("conv", Conv(padding=(1, 1, 1, 1)), "x", made.weight(*SHAPE), made.weight(5))
    made.constants["w0"][:] = weight
    made.add("flat", Reshape(shape=(None, 125)), "conv")
    fc = made.weight(3, 125)
    made.constants[fc][:, 0], made.constants[fc][:, 1] = 1.0, -1.0
    made.add("fc", Linear(), "flat", fc)
    return made.graph("fc")


@pytest.mark.parametrize("f", formats(), ids=lambda f: f.name)
def test_cards_of_storage(f: Format) -> None:
    """Formats of every kind, those that run nowhere among them: encoded, packed as the card says, and back."""
    c: Card = card(f)
    assert (c.levels, c.packing) == (f.levels, f.packing)
    assert c.stored_bits >= c.bits
    reals = f.values / f.max_abs
    codes = f.encode(np.concatenate([reals, reals[::-1]]), scale=1 / f.max_abs)
    np.testing.assert_array_equal(codes[: f.levels], np.arange(f.levels))
    data = f.pack(codes)
    assert len(data) == f.packed_size(codes.size)
    np.testing.assert_array_equal(f.decode(f.unpack(data, codes.size)), f.values[codes])
