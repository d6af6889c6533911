"""A small classifier with a residual sum, and samples for it: searches on it take seconds."""

from __future__ import annotations

import numpy as np

from subbyte.graph.ir import FloatType, Graph, Node
from subbyte.graph.ops.add import Add
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.mean import Mean
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.softmax import Softmax

CONV = Conv(stride=(1, 1), dilation=(1, 1), padding=(1, 1, 1, 1), groups=1, layout="channels_first")


def classifier(seed: int = 0, channels: int = 8) -> Graph:
    """stem, two branches that meet in a sum, mean, head, softmax; 5 classes of images [2, 6, 6]."""
    rng = np.random.default_rng(seed)
    constants: dict[str, np.ndarray] = {}
    nodes: list[Node] = []
    types = {"image": FloatType(shape=(None, 2, 6, 6))}

    def add(name, op, *inputs):
        types[name] = FloatType(shape=op.infer([types.get(i, constants.get(i)) for i in inputs]))
        nodes.append(Node(name=name, op=op, inputs=inputs, output=name, module=name))

    def weight(name, *shape):
        constants[name] = (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
        return name

    add("stem", CONV, "image", weight("w_stem", channels, 2, 3, 3))
    add("relu", Rectify(), "stem")
    add("left", CONV, "relu", weight("w_left", channels, channels, 3, 3))
    add("right", CONV, "relu", weight("w_right", channels, channels, 3, 3))
    add("sum", Add(rectify=Rectify()), "left", "right")
    add("mean", Mean(axes=(2, 3), keepdims=False), "sum")
    add("head", Linear(), "mean", weight("w_head", 5, channels))
    add("p", Softmax(axis=1), "head")
    return Graph(name="small", inputs=("image",), outputs=("p",), types=types, constants=constants, nodes=tuple(nodes))


def images(count: int = 96, seed: int = 1) -> np.ndarray:
    """Images with structure: a few patterns, scaled, and noise."""
    rng = np.random.default_rng(seed)
    patterns = rng.standard_normal((6, 2, 6, 6))
    mixed = rng.standard_normal((count, 6)) @ patterns.reshape(6, -1)
    return (mixed.reshape(count, 2, 6, 6) + 0.3 * rng.standard_normal((count, 2, 6, 6))).astype(np.float32)


LAYERS = ("stem", "left", "right", "head")
