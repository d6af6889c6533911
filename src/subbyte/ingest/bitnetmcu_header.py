"""C headers that BitNetMCU's export writes, read as text: which layers there are, and the numbers of each.

A header names its layers ``L<number>``, in execution order but with gaps where activations were. Fully connected layers
have ``bitperweight``, ``incoming_weights`` and ``outgoing_weights``, as definitions or as variables of older exports,
and words of weights. Layers of ``type BitConv2d`` have sizes, and int8 weights in the order output, row, column; layers
of ``type MaxPool2d`` a ``pool_size``. By how many bits a convolution is shifted stands in the device's code alone.

Source: BitNetMCU's exported headers, of which the names are; no code or weights of theirs are here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from subbyte.errors import IngestError
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Graph
from subbyte.ingest.bitnetmcu import Convolution, chain, unpack_words

SHIFT = 4
"""Of every convolution in the published nets' code."""

MOST_CHARACTERS = 2**24
"""Of a header; the published ones have 12,000 to 40,000."""

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_FIELD = re.compile(r"(?:#define|u?int\d+_t)[ \t]+L(\d{1,4})_(\w{1,40})(?:[ \t]+|[ \t]*=[ \t]*)(\w{1,20})\b")
_ARRAY = re.compile(r"u?int\d+_t[ \t]+L(\d{1,4})_weights[ \t]*\[\w{0,40}\][ \t]*=[ \t]*\{([^{}]*)\}")
_NUMBER = re.compile(r"-?(?:0[xX][0-9a-fA-F]{1,8}|\d{1,10})")

Fields = Mapping[str, str]


def read_header(text: str, shift: int = SHIFT, name: str = "bitnetmcu") -> Graph:
    """The integer graph of an exported net (see ``bitnetmcu.chain``).

    Args:
        text: of the header.
        shift: bits that the device's code drops behind each convolution.
        name: of the graph.

    Raises:
        IngestError: no layers, a layer that lacks something, or one of a kind that is not read.
        LoweringError: a sum can leave int32, where the device's would wrap around.
    """
    if len(text) > MOST_CHARACTERS:
        rule = f"a header has at most {MOST_CHARACTERS} characters"
        raise IngestError(f"a text of {len(text)} characters", rule, "give the exported header alone")
    plain = _COMMENT.sub(" ", text)
    layers: dict[int, dict[str, str]] = defaultdict(dict)
    for number, field, value in _FIELD.findall(plain):
        layers[int(number)].setdefault(field, value)
    weights = {int(number): _numbers(body, f"L{number}") for number, body in _ARRAY.findall(plain)}
    linear: list[QTensor] = []
    convolutions: list[Convolution] = []
    images: list[tuple[int, int]] = []
    for number in sorted({*layers, *weights}):
        fields, place = layers[number], f"L{number}"
        kind = fields.get("type", "BitLinear")
        if kind == "BitLinear":
            outputs, inputs = (_integer(fields, f, place) for f in ("outgoing_weights", "incoming_weights"))
            words = _weights(weights, number)
            linear.append(_at(place, words, _integer(fields, "bitperweight", place), outputs, inputs))
        elif linear or kind not in ("BitConv2d", "MaxPool2d"):
            raise _refused(f"a layer of type {kind} behind {len(linear)} linear ones", place)
        elif kind == "BitConv2d":
            convolutions.append(_convolution(fields, _weights(weights, number), not images, shift, place))
            images.append((_integer(fields, "incoming_x", place), _integer(fields, "incoming_y", place)))
        else:
            if not convolutions or convolutions[-1].pool != 1:
                raise _refused("a maximum that is not behind a convolution", place)
            convolutions[-1] = convolutions[-1]._replace(pool=_integer(fields, "pool_size", place))
    return chain(linear, name, convolutions, images[0][::-1] if images else (1, 1))


def _convolution(fields: Fields, numbers: Sequence[int], first: bool, shift: int, place: str) -> Convolution:
    outputs, side, groups = (_integer(fields, f, place) for f in ("out_channels", "kernel_size", "groups"))
    inputs = _integer(fields, "in_channels", place)
    plain = [_integer(fields, f, place) for f in ("stride", "padding", "bitperweight")] == [1, 0, 8]
    if not plain or (inputs, groups) != ((1, 1) if first else (outputs, outputs)):
        seen = f"a convolution of {inputs} to {outputs} channels in {groups} groups, of stride, padding or bits unknown"
        raise _refused(seen, place)
    if len(numbers) != outputs * side * side:
        raise _refused(f"{len(numbers)} weights of a convolution of {outputs} channels and {side} x {side}", place)
    return Convolution(np.array(numbers, np.int64).reshape(outputs, side, side), shift=shift)


def _at(place: str, words: Sequence[int], encoding: int, outputs: int, inputs: int) -> QTensor:
    try:
        return unpack_words(np.array(words, np.int64), encoding, outputs, inputs)
    except IngestError as error:
        raise error.at(place) from error


def _numbers(body: str, place: str) -> list[int]:
    words = [word for word in (part.strip() for part in body.split(",")) if word]
    wrong = next((word for word in words if _NUMBER.fullmatch(word) is None), None)
    if wrong is not None:
        raise _refused(f"weights hold {wrong[:40]!r}", place)
    return [int(word, 16 if "x" in word.lower() else 10) for word in words]


def _weights(weights: Mapping[int, list[int]], number: int) -> list[int]:
    if not weights.get(number):
        raise _refused("a layer without weights", f"L{number}")
    return weights[number]


def _integer(fields: Fields, field: str, place: str) -> int:
    value = fields.get(field, "nothing")
    if re.fullmatch(r"\d{1,6}", value) is None:
        raise _refused(f"{field} is {value}", place)
    return int(value)


def _refused(seen: str, place: str) -> IngestError:
    return IngestError(
        seen,
        "layers are BitConv2d (of the image, then of each channel by itself; stride 1, no padding, 8 bits), perhaps a "
        "MaxPool2d behind each, then fully connected ones; every layer has its sizes and its weights",
        "export the net with the project's own exporter, or build it with bitnetmcu.chain",
        f"header, layer {place}",
    )
