"""The integer graph of one matrix product, to time kernels with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.requant import multiplier
from subbyte.formats import get_format
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Graph, IntType, Node
from subbyte.graph.ops import IntLinear

Array = npt.NDArray[Any]
SCALE = 0.0078125


def product(rows: int, inputs: int, outputs: int, weights: str, activations: str) -> Graph:
    """``[rows x inputs]`` times ``[outputs x inputs]`` transposed, rescaled to the format of the operand.

    Args:
        rows: of the left matrix, in one sample.
        inputs: products per result.
        outputs: columns of the result.
        weights: name of a format.
        activations: name of a format of operand and result.
    """
    kind, weight = get_format(activations), get_format(weights)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, weight.levels, (outputs, inputs), dtype=np.uint8)
    zero = 0 if kind.stored_hi == 1 else (kind.stored_hi + 1) // 2
    spread = float(np.sqrt(inputs) * kind.stored_hi * max(abs(weight.lo), abs(weight.hi)))
    m, n = multiplier(kind.stored_hi / (2 * spread), "m31")
    constants: Mapping[str, Any] = {
        "weight": QTensor(
            codes=codes, format=weight, scale=np.ones(outputs, np.float32), zero_point=np.zeros(outputs, np.int32)
        ),
        "bias": rng.integers(-1000, 1001, outputs).astype(np.int32),
        "m": np.full(outputs, m, np.int32),
        "n": np.full(outputs, n, np.int32),
    }
    types = {
        name: IntType(shape=(None, rows, width), format=kind, scale=SCALE, zero_point=zero)
        for name, width in (("x", inputs), ("y", outputs))
    }
    op = IntLinear(lo=kind.stored_lo, hi=kind.stored_hi)
    node = Node(name="product", op=op, inputs=("x", "weight", "bias", "m", "n"), output="y")
    name = f"{rows} x {inputs} x {outputs}, {weights} x {activations}"
    return Graph(name=name, inputs=("x",), outputs=("y",), types=types, constants=constants, nodes=(node,))
