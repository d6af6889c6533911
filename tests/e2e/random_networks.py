"""Random float networks, recipes and samples: what ``quantize`` may meet, drawn from one seed.

A network starts from one or two inputs and grows by operators whose operands are values made before, so that values
are read by several layers, by concats and by the outside at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from subbyte.graph.ir import Graph
from subbyte.graph.ops.argmax import Argmax
from subbyte.graph.ops.identity import Identity
from subbyte.graph.ops.log_softmax import LogSoftmax
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.resize_nearest import ResizeNearest
from subbyte.graph.ops.slice import Slice
from subbyte.graph.ops.softmax import Softmax
from subbyte.graph.ops.unary import FUNCTIONS, Unary
from subbyte.quantization.recipe import Recipe, Rule, named_recipe
from tests.graph.networks import LEAKY, RELU, RELU6, Net

ARITHMETICS = ("m31", "m15", "shift")
RECIPES = (
    "w8a8", "w8a8", "w8a7", "w4a8", "w4a4", "w2a2", "w1a8", "w3a1", "wternary_a8", "wternary_aternary", "x31_w17",
    "x255_w3", "x5_w127", "wmidrise2_amidrise2", "wbinary_abinary_first_last_same", "w2a3_first_last_same",
    "w3a6_first_last_8", "wmidrise4_alevels17", "w8a16", "w3a16", "wfp8_e4m3fn_a16", "wfp6_e3m2_afp6_e3m2",
    "w8_afp8_e4m3fn", "wfp8_e4m3fn_afp8_e4m3fn",
)  # fmt: skip
WEIGHTS = ("int8", "fp8_e4m3fn", "int4", "int3", "levels17", "ternary", "binary", "midrise3", None, None)
ACTIVATIONS = (
    "uint8",
    "int16",
    "fp8_e4m3fn",
    "fp6_e3m2",
    "uint5",
    "uint3",
    "levels31",
    "ternary",
    "midrise2",
    "int6",
    None,
    None,
)
STORAGE = ("uint8", "uint4", "int7", "int16", "levels17", None, None, None)
OBSERVERS = ("min_max", "ema_0.9", "percentile_99", "mse", "octav", "entropy", None, None)
RECTIFIERS = (
    RELU, RELU, RELU6, LEAKY, Rectify(lo=-0.3, hi=0.7), Rectify(hi=0.1), Rectify(slope=0.0), Rectify(slope=2.5, hi=1.0),
    Rectify(slope=-0.5), Rectify(slope=0.25, lo=-0.1), Rectify(lo=0.2, hi=0.4), Rectify(slope=0.0, lo=-1.0),
)  # fmt: skip


class Maker:
    """Grows one network; every choice comes from one seeded generator."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.net = Net(seed)
        self.used: set[str] = set()

    def make(self, length: int) -> Graph:
        """A verified float graph of at most ``length`` nodes; what nobody reads goes out, and sometimes more."""
        for k in range(self.integer(1, 2)):
            size = self.integer(1, 8)
            shape = (self.integer(1, 6), size, size if self.coin() else self.integer(1, 8))
            self.net.input(f"in{k}", *(shape if self.coin(0.8) else (self.integer(1, 24),)))
        steps = [s for s, weight in STEPS.items() for _ in range(weight)]
        for _ in range(4 * length):
            if len(self.net.nodes) >= length:
                break
            self.pick(steps)(self)
        if not self.net.nodes:
            _rectify(self)
        made = [n.output for n in self.net.nodes]
        read = {i for n in self.net.nodes for i in n.inputs}
        extra = [v for v in (*self.net.inputs, *made) if v in read and self.coin(0.08)]
        return self.net.graph(*[v for v in made if v not in read], *extra)

    def pick(self, options):
        return options[int(self.rng.integers(len(options)))]

    def integer(self, lo: int, hi: int) -> int:
        """Uniform in lo..hi, both included."""
        return int(self.rng.integers(lo, hi + 1))

    def coin(self, p: float = 0.5) -> bool:
        return bool(self.rng.random() < p)

    def value(self, suits: Callable[[tuple[int, ...]], bool] = lambda shape: True) -> str | None:
        """A value whose shape (without batch) suits, recent ones more often; None if there is none."""
        options = [v for v in self.net.types if suits(self.net.shape(v))]
        if options and self.coin(0.6):
            options = options[-2:]
        return self.pick(options) if options else None


def _image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3


def _conv(m: Maker) -> None:
    x = m.value(_image)
    if x is None:
        return
    channels, *size = m.net.shape(x)
    groups = m.pick([g for g in (1, 1, 2, 3, channels) if channels % g == 0])
    kernel, dilation = m.integer(1, 3), m.integer(1, 2)
    padding = tuple(m.integer(0, kernel - 1) for _ in range(4))
    reach = 1 + dilation * (kernel - 1)
    if any(s + padding[i] + padding[i + 2] < reach for i, s in enumerate(size)):
        return
    m.net.conv(
        x, groups * m.integer(1, 3), kernel, bias=m.coin(), groups=groups, padding=padding,
        dilation=(dilation, dilation), stride=(m.integer(1, 2), m.integer(1, 2)),
    )  # fmt: skip
    weight = m.net.constants[m.net.nodes[-1].inputs[1]]
    if m.coin(0.15):
        weight[m.integer(0, len(weight) - 1)] = 0
    if m.coin(0.1):
        weight *= 10.0 ** m.integer(-4, 4)


def _linear(m: Maker) -> None:
    x = m.value(lambda shape: len(shape) <= 2 or shape[-1] > 1)
    if x is not None:
        m.net.linear(x, m.integer(1, 12), bias=m.coin(0.7))


def _batch_norm(m: Maker) -> None:
    x = m.value()
    m.net.batch_norm(x, m.integer(1, len(m.net.shape(x))))


def _affine(m: Maker) -> None:
    x = m.value()
    y = m.net.affine(x, m.integer(1, len(m.net.shape(x))))
    if m.coin(0.2):
        m.net.constants[f"{y}.a"][0] = 0


def _rectify(m: Maker) -> None:
    m.net.relu(m.value(), m.pick(RECTIFIERS))


def _binary(m: Maker) -> None:
    a = m.value()
    shape = m.net.shape(a)
    b = m.value(lambda s: len(s) == len(shape) and all(p == q or 1 in (p, q) for p, q in zip(s, shape, strict=True)))
    m.pick([m.net.add, m.net.add, m.net.sub, m.net.mul])(a, b)


def _with_constant(m: Maker) -> None:
    a = m.value()
    shape = tuple(1 if m.coin(0.4) else d for d in m.net.shape(a))
    b = m.net.number(*(shape[m.integer(0, len(shape)) :] if m.coin() else shape))
    if m.coin(0.1):
        m.net.constants[b] = np.zeros_like(m.net.constants[b])
    operator = m.pick([m.net.add, m.net.sub, m.net.mul])
    operator(*((a, b) if m.coin() else (b, a)))


def _unary(m: Maker) -> None:
    function = m.pick(FUNCTIONS)
    m.net.node(Unary(function=function, params=(0.2, 0.5) if function == "hard_sigmoid" else ()), m.value())


def _concat(m: Maker) -> None:
    a = m.value()
    shape = m.net.shape(a)
    axis = m.integer(1, len(shape))

    def fits(s: tuple[int, ...]) -> bool:
        return len(s) == len(shape) and (*s[: axis - 1], *s[axis:]) == (*shape[: axis - 1], *shape[axis:])

    m.net.concat(axis, a, *(m.value(fits) for _ in range(m.integer(1, 2))))


def _pool(m: Maker) -> None:
    kernel = m.integer(1, 3)
    x = m.value(lambda s: _image(s) and min(s[1:]) >= kernel)
    if x is None:
        return
    padding = tuple(m.integer(0, kernel // 2) for _ in range(4))
    stride = (m.integer(1, 2),) * 2
    if m.coin():
        m.net.max_pool(x, kernel, padding=padding, stride=stride)
    else:
        m.net.avg_pool(x, kernel, padding=padding, stride=stride, count_include_pad=m.coin(), ceil_mode=m.coin(0.3))


def _mean(m: Maker) -> None:
    x = m.value(lambda s: len(s) >= 2)
    if x is None:
        return
    axes = (2, 3) if _image(m.net.shape(x)) and m.coin(0.8) else (m.integer(1, len(m.net.shape(x))),)
    m.net.mean(x, *axes, keepdims=m.coin())


def _pad(m: Maker) -> None:
    x = m.value()
    rank = len(m.net.shape(x))
    before, after = (tuple(m.integer(0, 1) for _ in range(rank)) for _ in range(2))
    m.net.pad(x, before, after, m.pick([0.0, 0.0, 0.5, -3.0]))


def _move(m: Maker) -> None:
    x = m.value()
    shape = m.net.shape(x)
    kind = m.integer(0, 4)
    if kind == 0:
        m.net.reshape(x, math.prod(shape))
    elif kind == 1:
        m.net.transpose(x, *(int(a) + 1 for a in m.rng.permutation(len(shape))))
    elif kind == 2:
        starts = tuple(m.integer(0, d - 1) for d in shape)
        op = Slice(starts=(0, *starts), ends=(None, *shape), steps=(1, *(m.integer(1, 2) for _ in shape)))
        m.net.node(op, x)
    elif kind == 3 and _image(shape):
        m.net.node(ResizeNearest(size=(m.integer(1, 9), m.integer(1, 9)), layout="channels_first"), x)
    else:
        m.net.node(Identity(), x)


def _head(m: Maker) -> None:
    x = m.value()
    axis = m.integer(1, len(m.net.shape(x)))
    m.net.node(m.pick([Softmax(axis=axis), LogSoftmax(axis=axis), Argmax(axis=axis, keepdims=True)]), x)


STEPS: dict[Callable[[Maker], None], int] = {
    _conv: 5, _linear: 2, _batch_norm: 1, _affine: 1, _rectify: 4, _binary: 3, _with_constant: 1, _unary: 1, _concat: 2,
    _pool: 2, _mean: 1, _pad: 1, _move: 2, _head: 1,
}  # fmt: skip


def random_network(seed: int, length: int = 9) -> Graph:
    """The float graph of a seed."""
    return Maker(seed).make(length)


def random_recipe(seed: int, layers: list[str]) -> Recipe:
    """A short name, sometimes with rules for some layers and other formats at the ends of the network."""
    rng = np.random.default_rng(seed)

    def pick(options):
        return options[int(rng.integers(len(options)))]

    base = named_recipe(pick(RECIPES))
    if rng.random() < 0.5:
        return base
    rules = list(base.rules)
    for name in layers:
        if rng.random() < 0.5:
            weights = pick(WEIGHTS)
            affine = rng.random() < 0.2
            rule = Rule(
                path=f"^{name}$",
                weights="int5" if affine else weights,
                activations=pick(ACTIVATIONS),
                storage=pick(STORAGE),
                observer=pick(OBSERVERS),
                granularity=pick(("per_tensor", None)),
                weight_method=pick(("mse", "min_max", None)),
                symmetric=False if affine else None,
            )
            rules.append(rule)
    return Recipe(
        name="random",
        rules=tuple(rules),
        input=pick(("uint8", "uint8", "int8", "uint5", "int16")),
        output=pick(("int16", "int16", "uint8")),
        methods=pick((None, None, (), ("bias_correction",), ("refit", "gptq"), ("rescale", "bias_correction"))),
    )


def random_samples(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    """A few samples by input name: of ordinary, tiny or huge size, one-sided, or zeros only."""
    rng = np.random.default_rng(seed)
    count = int(rng.choice([1, 3, 8]))
    samples = {}
    for name in graph.inputs:
        x = rng.standard_normal((count, *graph.types[name].shape[1:]))
        kind = rng.random()
        if kind < 0.1:
            x *= 10.0 ** rng.integers(-3, 4)
        elif kind < 0.2:
            x = np.abs(x)
        elif kind < 0.25:
            x *= 0
        samples[name] = x.astype(np.float32)
    return samples
