"""Nets of the BitNetMCU kind: chains in integers, without biases and without scales.

What their training exports is a chain of weight matrices in words of 32 bits, each with the number of its encoding;
in front of them there may be convolutions of one channel each, with int8 weights. ``unpack_words`` reads such words,
``chain`` makes the integer graph: convolutions are one operator (``graph/ops/channel_stack.py``), every layer but the
last is renormalised at run time (``graph/ops/linear_norm.py``), the last one answers with a position. The same integers
come out as on the device. ``bitnetmcu_header.py`` reads whole exported headers.

Encodings by number, from the project's documentation: 1 binary (a set bit is +1), 2 and 4 sign and magnitude of odd
integers, 12 and 16 two's complement of 4 and 8 bits, 20 FP1.3.0 (sign and exponent), 64 ternary, ten digits in 16 bits.
Code 36, NF4, is exported there and has no kernel (its layers give zeros), so it is refused here.

Source: BitNetMCU documentation. Its code is under the GPL; none of it is here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from subbyte.errors import IngestError
from subbyte.formats import Format, get_format
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Graph, IntType, Node, Shape
from subbyte.graph.ops.channel_stack import IntChannelStack
from subbyte.graph.ops.linear_norm import IntLinearArgmax, IntLinearNorm
from subbyte.graph.ops.op import Op
from subbyte.graph.verify import verify

Integers = npt.NDArray[np.int64]

LARGEST = 127
"""Of the activations between layers."""

POWERS = Format(
    name="fp130_128",
    table=(*(-(1 << e) for e in reversed(range(8))), *(1 << e for e in range(8))),
    title="FP1.3.0 with 128 itself: no int8, so for chains without scales alone",
    source="BitNetMCU documentation, FP1.3.0",
)


class Encoding(NamedTuple):
    """How one number lies in a word.

    Attributes:
        format: that holds its values.
        bits: of a code in a word of 32 bits, highest first; 0: ten base-3 digits in a word of 16.
        values: integers of codes.
    """

    format: Format
    bits: int
    values: Callable[[Integers], Integers]


def _signed(bits: int, magnitude: Callable[[Integers], Integers]) -> Callable[[Integers], Integers]:
    """Of codes that are a sign bit and bits of magnitude."""
    top = bits - 1
    return lambda code: np.where(code >> top == 1, -1, 1) * magnitude(code & ((1 << top) - 1))


def _complement(bits: int) -> Callable[[Integers], Integers]:
    return lambda code: code - ((code >> (bits - 1)) << bits)


ENCODINGS: dict[int, Encoding] = {
    1: Encoding(get_format("binary"), 1, lambda code: 2 * code - 1),
    2: Encoding(get_format("midrise2"), 2, _signed(2, lambda m: 2 * m + 1)),
    4: Encoding(get_format("midrise4"), 4, _signed(4, lambda m: 2 * m + 1)),
    12: Encoding(get_format("int4"), 4, _complement(4)),
    16: Encoding(get_format("int8"), 8, _complement(8)),
    20: Encoding(POWERS, 4, _signed(4, lambda e: np.int64(1) << e)),
    64: Encoding(get_format("ternary"), 0, lambda code: np.array([1, -1, 0])[code]),
}
"""By the number that the exporter writes beside the weights."""


class Convolution(NamedTuple):
    """A convolution of one channel each, without padding, and the maximum behind it.

    Attributes:
        weights: integers within int8 [channels, side, side], in the order of the export: channel, row, column.
        pool: side of the squares of which the largest number stays; 1: all stay.
        shift: bits that sums lose; the published nets' code drops 4 behind every convolution, their export says none.
    """

    weights: npt.ArrayLike
    pool: int = 1
    shift: int = 4


def unpack_words(words: npt.ArrayLike, encoding: int, outputs: int, inputs: int) -> QTensor:
    """The weights of one layer.

    Args:
        words: unsigned integers, output by output; of 32 bits, of ternary weights of 16.
        encoding: number of ``ENCODINGS``.
        outputs: rows.
        inputs: columns; a row fills its words, but for ternary ones, whose last word may have digits too many.

    Returns:
        Codes [outputs, inputs] of scale 1.

    Raises:
        IngestError: unknown encoding, or words that are not so many numbers.
    """
    if encoding not in ENCODINGS:
        raise IngestError(
            f"weights have the encoding {encoding}",
            f"encodings are {', '.join(f'{n} ({e.format.name})' for n, e in ENCODINGS.items())}",
            "export the layer in one of them; of NF4 (36) the device has no kernel either",
        )
    kind = ENCODINGS[encoding]
    width, each = (16, 10) if kind.bits == 0 else (32, 32 // kind.bits)
    row = -(-inputs // each)
    array = np.asarray(words)
    whole = array.dtype.kind in "ui" and array.size == outputs * row and (kind.bits == 0 or inputs % each == 0)
    if outputs < 1 or inputs < 1 or not whole or int(array.min()) < 0 or int(array.max()) >> width:
        raise IngestError(
            f"{array.size} words of dtype {array.dtype} for {outputs} x {inputs} weights of encoding {encoding}",
            f"a row fills words of {width} bits with {each} weights each",
            "give the layer's words as they are exported, and its true size",
        )
    numbers = array.reshape(outputs, row, 1).astype(np.int64)
    codes = _trits(numbers) if kind.bits == 0 else _fields(numbers, kind.bits)
    integers = kind.values(codes.reshape(outputs, -1)[:, :inputs])
    return _tensor(integers, kind.format)


def chain(
    weights: Sequence[QTensor],
    name: str = "bitnetmcu",
    convolutions: Sequence[Convolution] = (),
    image: tuple[int, int] = (16, 16),
) -> Graph:
    """The integer graph of a chain of layers; its input is int8 of scale 1, its output the position of the answer.

    Args:
        weights: codes [outputs, inputs] of each linear layer, first to last; their scales are not looked at.
        name: of the graph.
        convolutions: in front of them, first to last; the input is then an image [rows, columns], and the first linear
            layer reads all channels, the numbers of a channel side by side.
        image: rows and columns, where there are convolutions.

    Raises:
        IngestError: no layer, or one that does not fit the layer in front of it.
        GraphError: the image is too small for the convolutions.
        LoweringError: a sum can leave int32, where the device's would wrap around.
    """
    nodes: list[Node] = []
    constants: dict[str, QTensor] = {}
    inputs = weights[0].shape[1] if weights and weights[0].codes.ndim == 2 else 0
    types = {"x": _kind((None, *image) if convolutions else (None, inputs), get_format("int8"), zero_point=128)}

    def put(made: str, op: Op, weight: QTensor, format: str) -> None:
        value = nodes[-1].output if nodes else "x"
        shape = op.infer([types[value], weight])
        types[made] = _kind(shape, get_format(format))
        constants[f"{made}.weight"] = weight
        nodes.append(Node(name=made, op=op, inputs=(value, f"{made}.weight"), output=made))

    if convolutions:
        put("conv", *_stack(convolutions), "uint7")
    _check_chain(weights, types["conv"].shape[-1] if convolutions else inputs)
    for i, weight in enumerate(weights, 1):
        last = i == len(weights)
        put(f"fc{i}", IntLinearArgmax() if last else IntLinearNorm(hi=LARGEST), weight, "int16" if last else "uint7")
    graph = Graph(
        name=name, inputs=("x",), outputs=(nodes[-1].output,), types=types, constants=constants, nodes=tuple(nodes)
    )
    verify(graph, "integer")
    return graph


def _kind(shape: Shape, format: Format, zero_point: int = 0) -> IntType:
    return IntType(shape=shape, format=format, scale=1.0, zero_point=zero_point)


def _stack(convolutions: Sequence[Convolution]) -> tuple[IntChannelStack, QTensor]:
    """The operator, and the windows of each channel side by side."""
    arrays = [np.asarray(c.weights) for c in convolutions]
    shapes = [a.shape for a in arrays]
    int8 = get_format("int8")
    whole = all(a.dtype.kind in "ui" and a.size and a.min() >= int8.lo and a.max() <= int8.hi for a in arrays)
    square = all(len(s) == 3 and s[0] == shapes[0][0] and s[1] == s[2] for s in shapes)
    if not whole or not square:
        raise IngestError(
            f"convolutions have weights {[f'{a.dtype}{list(a.shape)}' for a in arrays]}",
            "weights are integers of -128..127 [channels, side, side], of as many channels in every convolution",
            "give each layer's exported numbers in that shape; layers that mix channels do not exist on the device",
        )
    op = IntChannelStack(
        kernels=tuple(s[1] for s in shapes),
        shifts=tuple(c.shift for c in convolutions),
        pools=tuple(c.pool for c in convolutions),
        hi=LARGEST,
    )
    return op, _tensor(np.concatenate([a.reshape(len(a), -1) for a in arrays], axis=1), int8)


def _check_chain(weights: Sequence[QTensor], inputs: int | None) -> None:
    sizes = [weight.shape for weight in weights]
    fits = all(len(s) == 2 for s in sizes) and all(a[0] == b[1] for a, b in itertools.pairwise([(inputs,), *sizes]))
    if not sizes or not fits:
        raise IngestError(
            f"layers have weights of shape {[list(s) for s in sizes]}, the first one reads {inputs} numbers",
            "a chain has one layer or more, each with as many inputs as the layer in front has outputs, and no biases",
            "give [outputs, inputs] of each layer, first to last",
        )


def _fields(numbers: Integers, bits: int) -> Integers:
    """Codes of words [..., 1], highest bits first."""
    return (numbers >> np.arange(32 - bits, -1, -bits)) & ((1 << bits) - 1)


def _trits(numbers: Integers) -> Integers:
    """Ten digits of words [..., 1]: times three, the bits above 16 are the next digit."""
    digits = []
    for _ in range(10):
        numbers = (numbers & 0xFFFF) * 3
        digits.append(numbers >> 16)
    return np.concatenate(digits, axis=-1)


def _tensor(integers: Integers, format: Format) -> QTensor:
    ones = np.ones(len(integers), np.float32)
    codes = np.searchsorted(format.integers, integers).astype(np.uint8)
    return QTensor(codes=codes, format=format, scale=ones, zero_point=np.zeros(len(ones), np.int32))
