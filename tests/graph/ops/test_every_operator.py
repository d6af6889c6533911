"""What holds for every operator alike."""

from __future__ import annotations

import dataclasses
import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from subbyte.errors import GraphError, SubbyteError
from subbyte.formats import QTensor, get_format
from subbyte.graph.ir import FloatType, IntType
from subbyte.graph.ops import op_class, op_names
from subbyte.graph.ops.checks import MAX_DIM, MAX_ELEMENTS
from subbyte.graph.ops.op import attributes
from tests.graph.ops.cases import FLOAT, INTEGER, codes, declared, evaluate

EVERY = FLOAT + INTEGER
HOSTILE = [
    True, -1, 0, 1, 63, 2**31, 2**63, 2**200, -(2**31), 1.5, math.nan, math.inf, "x", "", None, (), [], [1, 1], {},
    (True, True), (0, 0), (-1, 1), (1.0, 1.0), (2**64, 2**64), (65535, 65535), (0, 0, 0, 0), (-1, 0, 0, 0), (1,) * 9,
    (0, 2**40, 0, 0), (65535, 65535, 65535, 65535), (None, 2**31), (None, 2**16, 2**16), (None, 0), (None, -1, -12),
    (None, None), (0, 1), (1, 0), (0, 3, 2, 1), (0, 0, 0),
]  # fmt: skip


def refused_or(function, argument):
    """The function's result, or None where it raised a well-formed error."""
    try:
        return function(argument)
    except SubbyteError as caught:
        if not four_parts(caught):
            raise AssertionError(f"a part is missing: {caught}") from caught
        return None


def cases(chosen):
    return pytest.mark.parametrize("case", chosen, ids=lambda c: c.label)


def four_parts(error: SubbyteError) -> bool:
    return all((error.seen, error.rule, error.remedy, error.place))


def test_every_operator_has_a_case():
    assert {c.op.name for c in EVERY} == set(op_names())
    both = {n for n in op_names() if op_class(n).dialect == "both"}
    assert both <= {c.op.name for c in INTEGER} & {c.op.name for c in FLOAT}


def test_registry_is_filled_without_torch():
    script = "import subbyte.graph.ops as o, sys; assert len(o.op_names()) > 30; assert 'torch' not in sys.modules"
    source = str(Path(__file__).parents[3] / "src")
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": source})


def test_unknown_operator_names_its_neighbours():
    with pytest.raises(GraphError, match="did you mean int_conv"):
        op_class("int_con")


@cases(EVERY)
def test_attributes_rebuild_the_operator(case):
    assert type(case.op)(**attributes(case.op)) == case.op
    assert hash(case.op) == hash(dataclasses.replace(case.op))


@cases(FLOAT)
def test_float_result_has_the_inferred_shape_and_gradients(case):
    generator = torch.Generator().manual_seed(0)
    tensors = []
    for operand in case.operands:
        if isinstance(operand, FloatType):
            tensors.append(torch.randn((3, *operand.shape[1:]), generator=generator, requires_grad=True))
        else:
            tensors.append(torch.tensor(operand))
    y = case.op.torch(*tensors)
    assert tuple(y.shape) == (3, *case.op.infer(case.operands)[1:])
    assert y.dtype == torch.float32
    if case.op.name != "argmax":
        y.square().sum().backward()
        assert all(t.grad is not None and torch.isfinite(t.grad).all() for t in tensors if t.requires_grad)


@cases(INTEGER)
@pytest.mark.parametrize("style", ["random", "extremes", "lo", "hi"])
@pytest.mark.parametrize("batch", [1, 4])
def test_executors_agree(case, style, batch):
    rng = np.random.default_rng(batch)
    evaluate(case, [codes(o, batch, rng, style) for o in case.operands if isinstance(o, IntType)])


@cases(EVERY)
def test_wrong_number_of_operands(case):
    for operands in (case.operands[:0], case.operands * 5):
        if case.op.name == "concat" and operands:
            continue
        with pytest.raises(GraphError) as caught:
            case.op.infer(operands)
        assert four_parts(caught.value)


@cases(EVERY)
def test_each_operand_of_the_wrong_kind(case):
    """A float value, an integer value, arrays of wrong dtype, rank or length, in turn at every place."""
    wrong = [FloatType(shape=(None, 3)), FloatType(shape=()), FloatType(shape=(2, 3)), np.float64(3.0), "x"]
    wrong += [np.zeros(0, np.int32), np.zeros((1,) * 9, np.float32), np.zeros(3, np.complex64), np.zeros((), np.int64)]
    for place in range(len(case.operands)):
        for other in wrong:
            operands = [other if i == place else o for i, o in enumerate(case.operands)]
            shape = refused_or(case.op.infer, operands)
            if shape is not None:  # rank-free float operators take any float value
                assert isinstance(other, FloatType)
                assert legal(shape)


@cases(EVERY)
def test_hostile_attributes_are_refused_or_harmless(case):
    for field, value in itertools.product([f.name for f in dataclasses.fields(case.op)], HOSTILE):
        op = dataclasses.replace(case.op, **{field: value})
        changed = dataclasses.replace(case, op=op)
        shape = refused_or(lambda c: c.op.infer(c.operands) if c.out is None else declared(c).shape, changed)
        if shape is not None:
            assert legal(shape), (field, value)
            kind = type(getattr(case.op, field))
            assert type(value) is kind or (kind is float and type(value) is int) or field == "rectify", (field, value)


@cases(INTEGER)
def test_declared_result_is_tested(case):
    """Reals, a wrong storage and a zero point outside of it are refused as results."""
    out = declared(case)
    other = "int16" if out.storage == "uint8" else "uint8"
    bad = [
        FloatType(shape=out.shape),
        dataclasses.replace(out, zero_point=2**40),
        dataclasses.replace(out, zero_point=True),
    ]
    if case.op.name not in (
        "int_linear",
        "int_linear_norm",
        "int_channel_stack",
        "int_rescale",
        "int_add",
        "int_mul",
        "int_mean",
        "int_avg_pool",
        "int_conv",
    ):
        bad.append(dataclasses.replace(out, format=get_format(other)))
    for kind in bad:
        with pytest.raises(SubbyteError) as caught:
            case.op.check(case.operands, kind)
        assert four_parts(caught.value)


@cases([c for c in INTEGER if hasattr(c.op, "lo")])
def test_clamps_lie_within_the_format(case):
    out = declared(case)
    for changes in ({"lo": out.lo - 1}, {"hi": out.hi + 1}, {"lo": 5, "hi": 4}):
        with pytest.raises(GraphError) as caught:
            dataclasses.replace(case.op, **changes).check(case.operands, out)
        assert four_parts(caught.value)


@cases(
    [c for c in INTEGER if op_class(c.op.name).dialect == "both" and c.op.name != "argmax"]
    + [c for c in INTEGER if c.op.name == "int_pad"]
)
def test_movement_keeps_the_quantization(case):
    out = declared(case)
    for changes in ({"scale": 0.25}, {"zero_point": 8}):
        with pytest.raises(GraphError, match="keeps scale") as caught:
            case.op.check(case.operands, dataclasses.replace(out, **changes))
        assert four_parts(caught.value)


@cases([c for c in INTEGER if any(isinstance(o, QTensor) for o in c.operands) and c.op.name != "int_channel_stack"])
def test_macs_count_products(case):
    operands = case.operands
    out = case.op.infer(operands)
    per_result = math.prod(operands[1].shape[case.op.name != "int_linear_argmax" :])  # its result holds all outputs
    assert case.op.macs(operands, out) == math.prod(out[1:]) * per_result > 0


def legal(shape) -> bool:
    sizes = shape[1:]
    return shape[0] is None and all(1 <= d <= MAX_DIM for d in sizes) and math.prod(sizes) <= MAX_ELEMENTS
