"""Small float networks in which one format plays one role, and the quantized models made of them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

import subbyte as sb
from subbyte.formats import Format
from subbyte.formats.levels import MAX_COUNT
from subbyte.formats.registry import FAMILIES
from subbyte.graph.ir import Graph
from subbyte.graph.ops.add import Add
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.max_pool import MaxPool
from subbyte.graph.ops.mean import Mean
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.reshape import Reshape
from tests.quantization.nets import Net

_LISTED = [name for family in FAMILIES for name in family.listed]
_COUNTS = [f"levels{count}" for count in range(3, MAX_COUNT + 1, 2)]
BUILT_IN = tuple(dict.fromkeys((*_LISTED, *_COUNTS)))
"""Every built-in format: the families of few members whole, and all level counts."""

POWERS = [0, *(sign * 2**k for k in range(7) for sign in (1, -1)), -128]
TABLES = st.one_of(
    st.lists(st.integers(-128, 127), min_size=2, max_size=256, unique=True),
    st.lists(st.integers(-9, 9), min_size=2, max_size=12, unique=True),
    st.lists(st.sampled_from(POWERS), min_size=2, unique=True),
).map(sorted)
"""Tables of a user's own formats."""

ROLES = {
    "weight": "weight",
    "affine_weight": "affine_weight",
    "activation": "activation",
    "storage": "storage",
    "input": "storage",
    "output": "storage",
}
"""What a format can be in a network, and under which role ``formats/refusals.py`` judges it."""

LAYERS = ("padded", "valid", "depthwise", "fc")
"""A convolution with padding and one without, a depthwise convolution with uneven padding, a linear layer."""

SAMPLES = 32


def layers_net(format_: Format) -> Graph:
    """``LAYERS`` in a row; weights reach equally far on both sides where an affine format of 8 bits needs it."""
    net = Net(5, 6, 6, seed=format_.levels)
    even = format_.levels > 128
    net.add("padded", Conv(padding=(1, 1, 1, 1)), "x", _weight(net, even, 7, 5, 3, 3), net.weight(7))
    net.add("valid", Conv(), "padded", _weight(net, even, 9, 7, 3, 3))
    net.add("relu", Rectify(slope=0.1), "valid")
    net.add("depthwise", Conv(padding=(0, 1, 1, 0), groups=9), "relu", _weight(net, even, 9, 1, 3, 2))
    net.add("flat", Reshape(shape=(None, 9 * 3 * 4)), "depthwise")
    net.add("fc", Linear(), "flat", _weight(net, even, 3, 108), net.weight(3))
    return net.graph("fc")


def _weight(net: Net, even: bool, *shape: int) -> str:
    name = net.weight(*shape)
    rows = net.constants[name].reshape(shape[0], -1)
    rows += 0.5 * np.abs(rows).mean()  # lopsided, so that zero points are not 0
    if even:
        rows[:, 0], rows[:, -1] = 2 * np.abs(rows).max(), -2 * np.abs(rows).max()
    return name


def storage_net() -> Graph:
    """Results that are read by a pool, an add, a convolution and a mean."""
    net = Net(4, 6, 6)
    net.add("a", Conv(padding=(1, 1, 1, 1)), "x", net.weight(6, 4, 3, 3), net.weight(6))
    net.add("relu", Rectify(lo=0.0), "a")
    net.add("pool", MaxPool(kernel=(3, 3), stride=(1, 1), dilation=(1, 1), padding=(1, 1, 1, 1)), "relu")
    net.add("b", Conv(padding=(1, 1, 1, 1)), "pool", net.weight(6, 6, 3, 3))
    net.add("sum", Add(), "pool", "b")
    net.add("c", Conv(), "sum", net.weight(5, 6, 2, 2))
    net.add("mean", Mean(axes=(2, 3), keepdims=False), "c")
    net.add("fc", Linear(), "mean", net.weight(4, 5))
    return net.graph("fc")


def ends_net() -> Graph:
    """An input read by a convolution and a pool; outputs made by a pool and a linear layer."""
    net = Net(4, 5, 5)
    net.add("conv", Conv(padding=(1, 1, 1, 1)), "x", net.weight(6, 4, 3, 3), net.weight(6))
    net.add("pool", MaxPool(kernel=(2, 2), stride=(2, 2), dilation=(1, 1), padding=(0,) * 4), "x")
    net.add("mean", Mean(axes=(2, 3), keepdims=False), "conv")
    net.add("fc", Linear(), "mean", net.weight(4, 6))
    return net.graph("fc", "pool")


def recipe(role: str, name: str) -> sb.Recipe:
    """8 bits, except that one role has the format."""
    rules = {
        "weight": sb.Rule(weights=name),
        "affine_weight": sb.Rule(weights=name, symmetric=False),
        "activation": sb.Rule(activations=name),
        "storage": sb.Rule(path="^[abc]$", storage=name),
    }
    ends = {
        "activation": {"first_input": name, "last_input": name},
        "input": {"input": name},
        "output": {"output": name},
    }
    plain = sb.Rule(weights="int8", activations="uint8")
    return sb.Recipe(name="test", rules=(plain, *([rules[role]] if role in rules else [])), **ends.get(role, {}))


def float_net(role: str, format_: Format) -> Graph:
    """The network in which a role is tried."""
    if role in {"input", "output"}:
        return ends_net()
    return storage_net() if role == "storage" else layers_net(format_)


def samples(graph: Graph, seed: int = 1) -> np.ndarray:
    """Normal reals, more of them positive."""
    shape = graph.types["x"].shape[1:]
    return np.random.default_rng(seed).normal(0.3, 1.0, (SAMPLES, *shape)).astype(np.float32)


def quantized(role: str, format_: Format, arithmetic: str = "m31") -> sb.QuantizedModel:
    """The model of a role; whatever ``quantize`` raises."""
    graph = float_net(role, format_)
    return sb.quantize(graph, samples(graph), recipe=recipe(role, format_.name), arithmetic=arithmetic, samples=SAMPLES)
