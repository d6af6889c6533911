"""One layer, the same for everybody: integers, scales and weights are drawn once and given to each runtime.

Operands and results are 8-bit codes, so a peer's answer may differ from ours by the rounding of one step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.bounds import worst_case
from subbyte.arithmetic.fast_requant import nudge
from subbyte.arithmetic.requant import multiplier
from subbyte.formats import Format, get_format
from subbyte.formats.qtensor import QTensor
from subbyte.graph import ops
from subbyte.graph.ir import Graph, IntType, Node

Array = npt.NDArray[Any]
INPUT_SCALE = 0.02
WEIGHT_SCALE = 0.01


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution [rows x columns x inputs] or a matrix product [rows x inputs] with per-channel weights.

    Attributes:
        name: in tables.
        rows: of the image, or of the left matrix.
        columns: of the image; 0 for a matrix product.
        inputs: channels, or K.
        outputs: channels, or N.
        kernel: of the convolution.
        groups: of the convolution.
        weights: format name.
        activations: format name.
    """

    name: str
    rows: int
    inputs: int
    outputs: int
    columns: int = 0
    kernel: int = 1
    groups: int = 1
    weights: str = "int8"
    activations: str = "uint8"

    @property
    def is_conv(self) -> bool:
        """Whether it slides over an image."""
        return self.columns > 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one call."""
        return self.rows * max(self.columns, 1) * self.outputs * self.depth

    @property
    def depth(self) -> int:
        """Products per result."""
        return self.kernel**2 * self.inputs // self.groups

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Of the operand, channels last, with batch 1."""
        return (1, self.rows, self.columns, self.inputs) if self.is_conv else (1, self.rows, self.inputs)

    @property
    def result_shape(self) -> tuple[int, ...]:
        """Of the result, channels last, with batch 1."""
        return (*self.sample_shape[:-1], self.outputs)

    @property
    def zero_point(self) -> int:
        """Of operand and result: 0 around convolutions, whose neighbours are rectified, and for binary activations."""
        hi = get_format(self.activations).stored_hi
        return 0 if self.is_conv or hi == 1 else (hi + 1) // 2

    @cached_property
    def x(self) -> Array:
        """The operand: stored integers."""
        hi = get_format(self.activations).stored_hi
        return np.random.default_rng(0).integers(0, hi + 1, self.sample_shape).astype(np.uint8)

    @cached_property
    def codes(self) -> Array:
        """Weight codes [outputs, (kernel, kernel,) inputs/groups]; the lowest of 2**b integers is not used."""
        taps = (self.kernel, self.kernel) if self.is_conv else ()
        weight = get_format(self.weights)
        skip = int(weight.lo + weight.hi < 0)  # symmetric, as every peer wants it
        shape = (self.outputs, *taps, self.inputs // self.groups)
        codes = np.random.default_rng(1).integers(skip, weight.levels, shape, dtype=np.uint8)
        codes.reshape(self.outputs, -1)[:, 0] = weight.levels - 1  # the largest is in every channel: one scale for all
        return codes

    @cached_property
    def weight(self) -> QTensor:
        """Weights with one scale per channel."""
        return QTensor(
            codes=self.codes,
            format=get_format(self.weights),
            scale=np.full(self.outputs, WEIGHT_SCALE, np.float32),
            zero_point=np.zeros(self.outputs, np.int32),
        )

    @cached_property
    def bias(self) -> Array:
        """In units of the accumulator."""
        return np.random.default_rng(2).integers(-1000, 1001, self.outputs).astype(np.int32)

    @cached_property
    def output_scale(self) -> float:
        """Such that results fill the codes without much clipping: 3 standard deviations."""
        centred = self.x.reshape(-1)[:65536].astype(np.float64) - self.zero_point
        integers = self.weight.integers().reshape(-1)[:65536].astype(np.float64)
        spread = np.sqrt(self.depth * np.square(centred).mean() * np.square(integers).mean())
        steps = max(get_format(self.activations).stored_hi - self.zero_point, 1)
        return float(np.float32(INPUT_SCALE * WEIGHT_SCALE * 3 * spread / steps))

    @cached_property
    def real_x(self) -> Array:
        """The operand's reals."""
        return (np.float32(INPUT_SCALE) * (self.x.astype(np.float32) - self.zero_point)).astype(np.float32)

    @cached_property
    def real_bias(self) -> Array:
        """The bias's reals."""
        return (self.bias * np.float32(INPUT_SCALE * WEIGHT_SCALE)).astype(np.float32)

    def graph(self) -> Graph:
        """The integer graph for subbyte's engine; a convolution's ReLU is its clamp."""
        kind = get_format(self.activations)
        pair = multiplier(INPUT_SCALE * WEIGHT_SCALE / self.output_scale, "m31")
        m, n = (np.full(self.outputs, number, np.int32) for number in pair)
        lo = self.zero_point if self.is_conv else kind.stored_lo
        x_most = max(self.zero_point, kind.stored_hi - self.zero_point)
        reach = worst_case(self.weight.integers(), -x_most, x_most, self.bias)
        m = nudge(m, n, self.zero_point, lo, kind.stored_hi, -reach, reach)  # as lowering does
        constants: Mapping[str, Any] = {"w": self.weight, "b": self.bias, "m": m, "n": n}
        pad = self.kernel // 2
        op: Any
        if self.is_conv:
            op = ops.IntConv(
                stride=(1, 1),
                dilation=(1, 1),
                padding=(pad,) * 4,
                groups=self.groups,
                lo=lo,
                hi=kind.stored_hi,
            )
        else:
            op = ops.IntLinear(lo=lo, hi=kind.stored_hi)
        types = {
            "x": self._type(self.sample_shape, kind, INPUT_SCALE),
            "y": self._type(self.result_shape, kind, self.output_scale),
        }
        node = Node(name="layer", op=op, inputs=("x", "w", "b", "m", "n"), output="y")
        return Graph(name=self.name, inputs=("x",), outputs=("y",), types=types, constants=constants, nodes=(node,))

    def _type(self, shape: tuple[int, ...], kind: Format, scale: float) -> IntType:
        return IntType(
            shape=(None, *shape[1:]), format=kind, scale=float(np.float32(scale)), zero_point=self.zero_point
        )
