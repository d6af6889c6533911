"""Random float networks through the whole compressor: either integers that mean the same, or four parts that say why.

Each network is quantized under a random recipe and arithmetic. Then NumPy reference, torch and native engine give the
same bits on every value; every integer node computes what its float node does on the same reals, up to one rounding;
and the saved model is the same model.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import subbyte as sb
from subbyte.errors import DataError, LoweringError, SubbyteError
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ops.centred import decoded, interval
from subbyte.graph.ops.log_softmax import LogSoftmax
from subbyte.graph.ops.softmax import Softmax
from subbyte.graph.passes import prepare
from subbyte.graph.torch_executor import run_integer
from subbyte.quantization.unbend import unbend
from subbyte.runtime.modelfile import from_bytes, to_bytes
from tests.e2e.random_networks import ARITHMETICS, random_network, random_recipe, random_samples
from tests.limits import examples

REFUSALS = (
    "holds inf",
    "factors that differ",
    "average pool divide by",
    "is too large",
    "a product of two activations",
)
"""What may be refused in these networks: exp of a large number, odd windows in shift arithmetic, unlike ranges."""

PRECISION = {"m31": 2.0**-20, "m15": 2.0**-14, "shift": 2.0**-20}
"""Relative error of a multiplier, generously."""

LAYERS = ("conv", "linear", "affine")


def quantized(seed: int, arithmetic: str) -> tuple[sb.Graph, sb.QuantizedModel, dict[str, np.ndarray]] | SubbyteError:
    """A prepared float graph, its integer model and samples; or why the network has no integer form."""
    graph = random_network(seed)
    prepared = unbend(prepare(graph), arithmetic)
    layers = [n.name for n in prepared if n.op.name in {"conv", "linear"}]
    samples = random_samples(graph, seed)
    try:
        q = sb.quantize(graph, samples, recipe=random_recipe(seed, layers), arithmetic=arithmetic, samples=8)
    except (DataError, LoweringError) as error:
        return error
    return prepared, q, samples


@settings(max_examples=examples(300))
@given(st.integers(0, 2**32 - 1), st.sampled_from(ARITHMETICS))
@example(289, "m15")  # a constant beside a much coarser value
@example(141, "m31")  # an int16 output that a layer with mid-rise operands reads
def test_executors_agree_and_integers_mean_what_the_network_says(seed, arithmetic):
    made = quantized(seed, arithmetic)
    if isinstance(made, SubbyteError):
        assert any(text in made.seen for text in REFUSALS), made
        assert "node '" in made.place or "value '" in made.place, made
        return
    graph, q, samples = made
    codes = q.encode(samples)
    expected = q.reference(codes, keep=True)
    native, in_torch = q.engine.run_all(codes), run_integer(q.graph, codes)
    for node in q.graph:
        np.testing.assert_array_equal(native[node.output], expected[node.output], err_msg=f"native {node}")
        np.testing.assert_array_equal(in_torch[node.output].numpy(), expected[node.output], err_msg=f"torch {node}")
    for name, array in q.engine.run(codes).items():
        np.testing.assert_array_equal(array, expected[name])
    for node in graph:
        check_meaning(graph, q.graph, node, expected, PRECISION[arithmetic])
    loaded, _ = from_bytes(to_bytes(q.graph, q.metadata))
    assert to_bytes(loaded, q.metadata) == to_bytes(q.graph, q.metadata)


def test_most_networks_have_an_integer_form():
    outcomes = [quantized(seed, ARITHMETICS[seed % 3]) for seed in range(60)]
    assert sum(isinstance(o, SubbyteError) for o in outcomes) <= 6


def reals(type_, q):
    """Stored integers as float64."""
    return torch.from_numpy(type_.scale * decoded(q.astype(np.int64), type_).astype(np.float64))


def layer_constants(integer, made):
    """Weight and bias that a float layer would need to be the integer one, float64."""
    weight, bias = (integer.constants[i] for i in made.inputs[1:3])
    assert isinstance(weight, QTensor)
    scale = np.broadcast_to(weight.scale.astype(np.float64), bias.shape)
    spread = scale.reshape(-1, *[1] * (weight.codes.ndim - 1))
    units = scale * integer.types[made.inputs[0]].scale
    return torch.from_numpy(weight.integers() * spread), torch.from_numpy(bias * units * 2.0**made.op.pre_shift)


def check_meaning(graph, integer, node, values, precision):
    """One integer node against its float operator in float64, on the very reals that the integer node reads."""
    made = integer.producer(node.output)
    if node.op.name == "affine":  # spread over several nodes
        made = next(n for n in integer if f"{node.name}.weight" in n.inputs)
    inputs = operands(graph, integer, node, made, values)
    out = integer.types[node.output]
    steps = node.op.torch(*inputs).numpy() / out.scale
    made_of = decoded(values[node.output].astype(np.int64), out)
    wrong = np.abs(np.clip(steps, *interval(out)) - made_of)
    allowed = tolerance(graph, node, integer, made, precision) + precision * np.minimum(np.abs(steps), 2**16)
    if out.format.coded:  # half way to the farther neighbour, in place of half a step
        around = out.format.centred(out.zero_point)
        at = values[node.output].astype(np.int64)
        ways = [np.abs(around[np.clip(at + d, out.lo, out.hi)] - made_of) for d in (-1, 1)]
        allowed = allowed * np.maximum(*ways)
    assert np.all(wrong <= allowed), (node, made)


def operands(graph, integer, node, made, values):
    """What the float operator reads: the integer node's operands, as reals."""
    read = iter(i for i in made.inputs if i in integer.types)
    inputs = []
    for name in node.inputs:
        if name in graph.types:
            operand = next(read)
            while node.op.name == "affine" and operand.startswith(f"{node.output}."):
                operand = integer.producer(operand).inputs[0]
            assert operand == name or operand.startswith(f"{name}::")
            inputs.append(reals(integer.types[operand], values[operand]))
        elif node.op.name not in LAYERS:
            inputs.append(torch.from_numpy(np.array(graph.constants[name])).double())
    if node.op.name in LAYERS:
        weight, bias = layer_constants(integer, made)
        inputs += [weight.reshape(-1) if node.op.name == "affine" else weight, bias]
    return inputs


def largest(type_):
    """Largest magnitude of its reals."""
    return type_.scale * max(map(abs, interval(type_)))


def tolerance(graph, node, integer, made, precision):
    """Output steps by which a node may be off: half by rounding, half by rounded clips, the rest by multipliers."""
    out = integer.types[node.output]
    if isinstance(node.op, Softmax):
        return 0.001 * 32768 + 1
    if isinstance(node.op, LogSoftmax):
        return 0.0015 / out.scale + 1
    clipped = getattr(node.op, "rectify", None) is not None or node.op.name in {"rectify", "pad"}
    allowed = 1.001 if clipped else 0.501
    spans = [largest(integer.types[i]) / out.scale for i in made.inputs if i in integer.types]
    allowed += precision * sum(spans)
    if node.op.name in {"add", "sub", "mul"}:
        for name in set(node.inputs) & set(graph.constants):  # half of a constant's step
            step = np.abs(graph.constants[name]).max() / 16383
            step = max(step, out.scale * 2.0**-made.op.n)
            allowed += step / 2 * (spans[0] if node.op.name == "mul" else 1 / out.scale)
    if made.op.name == "int_add":  # two terms with one shift
        read = [integer.types[i] for i in made.inputs if i in integer.types]
        allowed += sum(largest(t) / t.scale for t in read) / 2.0**made.op.n
    return allowed


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_the_same_seed_gives_the_same_bytes(seed):
    made = [quantized(seed, "m31") for _ in range(2)]
    first, second = (to_bytes(m[1].graph, m[1].metadata) for m in made)
    assert first == second
