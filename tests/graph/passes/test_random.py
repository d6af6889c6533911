"""All passes on random networks: residuals, concats, several readers, outputs that are read, transposes anywhere."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.graph.ir import Graph
from subbyte.graph.ops.argmax import Argmax
from subbyte.graph.ops.identity import Identity
from subbyte.graph.ops.resize_nearest import ResizeNearest
from subbyte.graph.ops.slice import Slice
from subbyte.graph.ops.softmax import Softmax
from subbyte.graph.passes.canonical import CANONICAL, PREPARED, prepare
from subbyte.graph.passes.properties import violation
from subbyte.graph.passes.protocol import run_passes
from tests.graph.networks import LEAKY, RELU, RELU6, Net, assert_same
from tests.limits import examples

T = TypeVar("T")


class Grower:
    """Adds one random node at a time to a network; a ``grow_*`` returns None where its operator does not fit."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.net = Net(seed)
        sizes = [self.pick([1, 3, 4]), *(self.rng.randint(4, 7) for _ in range(self.pick([2, 2, 2, 1])))]
        self.values = [self.net.input("x", *sizes)]
        if self.flip():
            self.values.append(self.net.input("z", *sizes))

    def flip(self) -> bool:
        return self.rng.random() < 0.5

    def pick(self, choices: Sequence[T]) -> T:
        return self.rng.choice(choices)

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return self.rng.sample(items, len(items))

    def grow(self) -> None:
        recent = self.values[-4:]
        x = self.pick(recent)
        kinds = [name for name in dir(self) if name.startswith("grow_")]
        made = getattr(self, self.pick(kinds))(x)
        if made is not None:
            self.values.append(made)

    def _axis(self, x: str) -> int:
        return self.rng.randint(1, len(self.net.shape(x)))

    def _twin(self, x: str) -> str:
        """A value of the same shape, maybe the same one."""
        return self.pick([v for v in self.values if self.net.shape(v) == self.net.shape(x)])

    def grow_conv(self, x: str) -> str | None:
        shape = self.net.shape(x)
        if len(shape) not in (2, 3):
            return None
        last = self.flip() and self.flip()
        channels = shape[-1] if last else shape[0]
        rank = len(shape) - 1
        groups = channels if self.flip() else 1
        out = channels * self.rng.randint(1, 2) if groups > 1 else self.pick([1, 2, 4])
        kernel = self.pick([1, 3])
        edges = [self.rng.randint(1, 2) if kernel == 3 else 0 for _ in range(2 * rank)]
        stride = tuple(self.rng.randint(1, 2) for _ in range(rank))
        layout = "channels_last" if last else "channels_first"
        if out > 16:
            return None
        return self.net.conv(
            x, out, kernel, groups=groups, padding=tuple(edges), stride=stride, layout=layout,
            bias=self.flip(),
        )  # fmt: skip

    grow_convolution = grow_conv

    def grow_linear(self, x: str) -> str:
        return self.net.linear(x, self.pick([2, 4]), bias=self.flip())

    def grow_batch_norm(self, x: str) -> str:
        axis = 1 if self.flip() else self._axis(x)
        return self.net.batch_norm(x, axis)

    def grow_affine(self, x: str) -> str:
        return self.net.affine(x, self._axis(x))

    def grow_rectify(self, x: str) -> str:
        return self.net.relu(x, self.pick([RELU, RELU6, LEAKY]))

    def grow_relu(self, x: str) -> str:
        return self.net.relu(x)

    def grow_unary(self, x: str) -> str:
        return self.net.unary(x, self.pick(["sigmoid", "tanh"]))

    def grow_residual(self, x: str) -> str:
        return self.pick([self.net.add, self.net.sub, self.net.mul])(x, self._twin(x))

    def grow_broadcast(self, x: str) -> str:
        narrow = self.net.mean(self._twin(x), self._axis(x), keepdims=True)
        a, b = self.shuffled([x, narrow])
        return self.net.add(a, b)

    def grow_constant(self, x: str) -> str:
        shape = self.net.shape(x)
        sizes = [d if self.flip() else 1 for d in shape]
        constant = self.net.number(*sizes[self.rng.randint(0, len(sizes)) :])
        a, b = self.shuffled([x, constant])
        return self.pick([self.net.add, self.net.sub, self.net.mul])(a, b)

    def grow_concat(self, x: str) -> str | None:
        values = [x, self._twin(x)]
        return self.net.concat(self._axis(x), *values) if np.prod(self.net.shape(x)) < 300 else None

    def grow_transpose(self, x: str) -> str:
        axes = range(1, len(self.net.shape(x)) + 1)
        return self.net.transpose(x, *self.shuffled(axes))

    grow_permutation = grow_transpose

    def grow_merge(self, x: str) -> str | None:
        shape = self.net.shape(x)
        if len(shape) == 1:
            return None
        at = self.rng.randint(0, len(shape) - 2)
        return self.net.reshape(x, *shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :])

    def grow_split(self, x: str) -> str | None:
        shape = self.net.shape(x)
        at = self.rng.randint(0, len(shape) - 1)
        factors = [d for d in (1, 2, 3, shape[at]) if shape[at] % d == 0]
        factor = self.pick(factors)
        return (
            self.net.reshape(x, *shape[:at], factor, shape[at] // factor, *shape[at + 1 :]) if len(shape) < 4 else None
        )

    def grow_flat_linear(self, x: str) -> str:
        flat = self.net.reshape(x, int(np.prod(self.net.shape(x))))
        self.values.append(flat)
        return self.net.linear(self.grow_relu(flat) if self.flip() else flat, 3)

    def grow_pool(self, x: str) -> str | None:
        shape = self.net.shape(x)
        if len(shape) not in (2, 3) or min(shape[1:]) < 3:
            return None
        rank = len(shape) - 1
        make = self.pick([self.net.max_pool, self.net.avg_pool])
        edges = tuple(self.rng.randint(0, 1) for _ in range(2 * rank))
        return make(x, self.rng.randint(2, 3), stride=(1,) * rank, padding=edges, ceil_mode=self.flip())

    def grow_mean(self, x: str) -> str | None:
        keepdims = self.flip()
        return self.net.mean(x, self._axis(x), keepdims=keepdims) if keepdims or len(self.net.shape(x)) > 1 else None

    def grow_pad(self, x: str) -> str | None:
        edges = [tuple(self.pick([0, 0, 1]) for _ in self.net.shape(x)) for _ in range(2)]
        if np.prod(self.net.shape(x)) > 400:
            return None
        return self.net.pad(x, edges[0], edges[1], self.pick([0.0, 0.0, 1.5]))

    def grow_slice(self, x: str) -> str:
        shape = self.net.shape(x)
        starts = tuple(self.rng.randint(0, (d - 1) // 2) for d in shape)
        steps = tuple(self.rng.randint(1, 2) for _ in shape)
        return self.net.node(Slice(starts=(0, *starts), ends=(None, *shape), steps=(1, *steps)), x)

    def grow_resize(self, x: str) -> str | None:
        return self.net.node(ResizeNearest(size=(5, 4)), x) if len(self.net.shape(x)) == 3 else None

    def grow_softmax(self, x: str) -> str:
        return self.net.node(Softmax(axis=self._axis(x)), x)

    def grow_identity(self, x: str) -> str:
        return self.net.node(Identity(), x)

    def grow_argmax(self, x: str) -> str:
        """Left out of the values: its position may differ where two numbers are equal up to rounding."""
        self.net.node(Argmax(axis=self._axis(x), keepdims=True), self.grow_softmax(x))
        return self.net.unary(x)


def network(seed: int, size: int) -> Graph:
    """A graph of about ``size`` nodes with one to three outputs, some of which are read inside too."""
    grower = Grower(seed)
    for _ in range(size):
        grower.grow()
    made = [v for v in grower.values if v not in grower.net.inputs] or [grower.net.relu("x")]
    others = [grower.pick(made) for _ in range(grower.rng.randint(0, 2))]
    return grower.net.graph(*dict.fromkeys([made[-1], *others]))


NETWORKS = st.builds(network, st.integers(0, 2**32), st.integers(2, 24))


@settings(max_examples=examples(1500))
@given(NETWORKS)
def test_prepared_networks_compute_the_same(graph: Graph) -> None:
    result = prepare(graph)
    assert_same(graph, result, folded=True)
    for name in PREPARED:
        assert violation(result, name) is None
    again = prepare(result)
    assert_same(graph, again, folded=True)
    assert _work(again) == _work(result)


def _work(graph: Graph) -> Counter[str]:
    """What is computed; where memory moves is decided greedily and may differ the second time."""
    return Counter(n.op.name for n in graph if n.op.name not in {"transpose", "reshape", "identity"})


@pytest.mark.parametrize("rewrite", dict.fromkeys(CANONICAL), ids=lambda rewrite: rewrite.name)
@settings(max_examples=examples(150))
@given(graph=NETWORKS)
def test_every_pass_alone_computes_the_same(rewrite, graph: Graph) -> None:
    if all(violation(graph, name) is None for name in rewrite.requires):
        result = run_passes(graph, [rewrite])
        assert result.changed == (result.graph is not graph)
        assert_same(graph, result.graph, folded=True)
