"""The integer network as a float one that can be differentiated: it rounds where the integer network rounds.

Reals appear where the integer network has codes times scales: the input, every stored value, every operand that a layer
reads in another format, weights, and biases (multiples of the accumulator's unit). Between two roundings the float
operators run. What is left out is below float error: rescales by integer multipliers, tables of ties.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from subbyte.distill.kernels import PACE, AffineKernel, Kernel
from subbyte.distill.rounding import activation_grid, rounded
from subbyte.graph.ir import IntType, Node
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.centred import interval
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.unary import Unary
from subbyte.graph.torch_executor import FloatExecutor
from subbyte.quantization.fake_quant import fake_trim
from subbyte.quantization.layers import LayerWeights
from subbyte.quantization.parts import FIXED_RANGE, Scaling, bent
from subbyte.quantization.scheme import Scheme
from subbyte.quantization.weights import room_for_bias

if TYPE_CHECKING:
    from torch import Tensor

Key: TypeAlias = tuple[str, str]
Env: TypeAlias = dict[str, "Tensor"]
State: TypeAlias = list["Tensor"]

SWING = 16.0
"""Biases move in units of the result's range over this, about half a standard deviation, at their pace."""


class Student:
    """A quantized network whose weights, biases and steps are parameters.

    Args:
        scheme: formats, scales and zero points of all activations; zero points stay.
        layers: weights of all layers.
        device: of torch.
        kernel: makes the parameters of a layer; a ``Kernel`` unless told.

    In shift arithmetic every rescale is a power of two, so scales stay as they are and so do affines.
    """

    def __init__(
        self,
        scheme: Scheme,
        layers: Mapping[str, LayerWeights],
        device: torch.device | str = "cpu",
        kernel: Callable[[LayerWeights, torch.device | str, bool], Kernel] = Kernel,
    ) -> None:
        self.scheme, self.graph, self.device = scheme, scheme.graph, device
        self.executor = FloatExecutor(scheme.graph, device)
        self.free = scheme.arithmetic != "shift"
        self.fixed = {n.name: layers[n.name] for n in self.graph if isinstance(n.op, Scaling) and self._stays(n)}
        self.kernels: dict[str, Kernel] = {
            n.name: AffineKernel(replace(layers[n.name], reals=None), device, False)
            if isinstance(n.op, Affine)
            else kernel(layers[n.name], device, self.free)
            for n in self.graph
            if isinstance(n.op, Scaling)
        }
        self.swings = {name: self._swing(self._node(name)) for name in self.kernels}
        self.grids = {key: activation_grid(t, device) for key, t in scheme.types.items()}
        self.starts = {key: torch.tensor(np.float32(t.scale), device=device) for key, t in scheme.types.items()}
        self.growth: dict[Key, Tensor] = {
            key: torch.zeros((), device=device, requires_grad=True) for key in scheme.types if self._learnable(key)
        }

    def _stays(self, node: Node) -> bool:
        return isinstance(node.op, Affine) and not self.free

    def _node(self, name: str) -> Node:
        return next(n for n in self.graph if n.name == name)

    def _swing(self, node: Node) -> float:
        type_ = self.scheme.stored(node.output)
        lo, hi = interval(type_)
        return type_.scale * (hi - lo) * PACE / SWING

    def _learnable(self, key: Key) -> bool:
        """Whether a slot's step may move: not in shift arithmetic, not 16-bit codes, not those with one fixed scale."""
        makers = self.scheme.clusters[key[0]].makers
        fixed = any(type(n.op) in FIXED_RANGE for n in makers)
        return self.free and self.scheme.types[key].storage == "uint8" and not fixed

    # Parameters

    def parameters(self) -> Sequence[Tensor]:
        """Everything that can be learned, always in the same order."""
        mine = [p for name, k in self.kernels.items() if name not in self.fixed for p in k.parameters()]
        return [*mine, *self.growth.values()]

    def state(self) -> State:
        """A copy of the parameters."""
        return [p.detach().clone() for p in self.parameters()]

    def restore(self, state: Sequence[Tensor]) -> None:
        """Take parameters from a copy."""
        with torch.no_grad():
            for p, kept in zip(self.parameters(), state, strict=True):
                p.copy_(kept)

    # Running

    def step_of(self, key: Key) -> Tensor:
        """Scale of a slot, float32."""
        growth = self.growth.get(key)
        return self.starts[key] if growth is None else self.starts[key] * torch.exp(PACE * growth)

    def stored_key(self, value: str) -> Key:
        """The slot that a value is stored in."""
        return self.scheme.slots.storage[self.scheme.clusters[value].root].key

    def operand_key(self, node: Node, value: str) -> Key:
        """The slot that a node reads a value in."""
        return self.scheme.clusters[value].root, self.scheme.operand(node, value).format.name

    def round(self, x: Tensor, key: Key, up: bool = True) -> Tensor:
        """A value as a slot holds it; ties go up behind rescales, to even codes at the input and in tables."""
        return rounded(x, self.step_of(key), self.grids[key], max(1, x[0].numel()), up)

    def feed(self, feeds: Mapping[str, Tensor]) -> Env:
        """The network's inputs as they are stored."""
        return {name: self.round(x, self.stored_key(name), up=False) for name, x in feeds.items()}

    def step(self, node: Node, env: Mapping[str, Tensor], stored: bool = True) -> Tensor:
        """The result of a node, unless told otherwise as it is stored; ``env`` holds stored operands."""
        operands = [self._operand(node, name, env) for name in node.inputs]
        if isinstance(node.op, Scaling):
            kernel = self.kernels[node.name]
            s_x = self.step_of(self.operand_key(node, node.inputs[0]))
            operands = [operands[0], kernel.weight(), kernel.biases(s_x, self.swings[node.name])]
        result = node.op.torch(*operands)
        if not stored:
            return result
        table = isinstance(node.op, Unary) or (isinstance(node.op, Rectify) and bent(node.op))
        return self.round(result, self.stored_key(node.output), up=not table)

    def _operand(self, node: Node, name: str, env: Mapping[str, Tensor]) -> Tensor:
        if name not in self.graph.types:
            return self.executor.constants[name]
        read = self.operand_key(node, name)
        x = env[name] if read == self.stored_key(name) else self.round(env[name], read)
        kept = self.scheme.trim(node)
        if kept is None:
            return x
        trim, group = kept  # what is cut off has no gradient of its own: the number's passes straight through
        type_ = replace(self.scheme.types[read], scale=float(self.step_of(read).detach()))
        return x + (fake_trim(x.detach(), type_, trim, group) - x.detach())

    def run(self, feeds: Mapping[str, Tensor], until: Iterable[str] = ()) -> Env:
        """Stored values by name; where ``until`` names some, only as far as the last of them."""
        env, missing = self.feed(feeds), set(until)
        for node in self.graph:
            if until and not (missing := missing - set(env)):
                break
            env[node.output] = self.step(node, env)
        return env

    # The end

    def result(self) -> tuple[Scheme, dict[str, LayerWeights]]:
        """The scheme and the layers as they have been learned, ready for lowering."""
        types = {key: self._type(key) for key in self.scheme.types}
        scheme = replace(self.scheme, types=types)
        layers = {}
        for name, kernel in self.kernels.items():
            node, swing = self._node(name), self.swings[name]
            x, s_y = scheme.operand(node, node.inputs[0]), scheme.stored(node.output).scale
            if name in self.fixed:
                layers[name] = self.fixed[name]
            elif isinstance(kernel, AffineKernel):
                layers[name] = kernel.affine(scheme.arithmetic, x.scale, s_y, swing, room_for_bias(x))
            else:
                layers[name] = kernel.layer(x.scale, swing, room_for_bias(x))
        return scheme, layers

    def _type(self, key: Key) -> IntType:
        with torch.no_grad():
            return replace(self.scheme.types[key], scale=float(self.step_of(key)))
