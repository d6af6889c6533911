"""Activations in finer steps than their codes have: channels made twice, half a step apart.

What four bits leave of a channel that varies by less than a step is little. Two copies of it, rounded half a step
apart, have a mean with half the step. Their operands stay in the format that the recipe names, and the price is the
multiplications of the copies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from subbyte.graph.ir import Graph, Node, float_shape
from subbyte.graph.passes.links import Link, Reals, links
from subbyte.graph.passes.split_channels import Places, SplitChannels, splits
from subbyte.graph.torch_executor import FloatExecutor
from subbyte.quantization.calibrate import Feeds, Progress
from subbyte.quantization.fake_quant import as_read, fake_quantize
from subbyte.quantization.methods.network import Network
from subbyte.quantization.methods.normals import Normal
from subbyte.quantization.parts import Layer
from subbyte.quantization.resolve import is_low
from subbyte.quantization.scheme import Scheme

if TYPE_CHECKING:
    import torch

    Env = Mapping[str, torch.Tensor]

MORE_WORK = 0.25
"""Multiplications that copies may add, in parts of those of the whole network."""


@dataclass(frozen=True)
class _Candidate:
    """A link whose channels may be made twice.

    Attributes:
        link: where.
        step: between two codes of what the readers read.
        error: [channels], what rounding adds to the network's outputs, in parts of their power.
        work: multiplications of one more channel.
    """

    link: Link
    step: float
    error: Reals
    work: float


def activation_splitting(network: Network, scheme: Scheme, samples: int) -> Network:
    """The network with channels of low-bit operands made twice, where that takes most error for its work.

    The copies are a quarter of a step below and above the channel, and the readers' weights for it are shared out.
    Source: Zhao et al. 2019, "Improving Neural Network Quantization without Retraining using Outlier Channel
    Splitting", section 3: channels split in two, rounded half a step apart, so that the sum is what one finer rounding
    would give. Which channels, by what each layer's rounding alone does to the network's outputs, is ours.

    The function stays the same as far as the maker's activation is straight: next to its kink a copy is off by at
    most a quarter of a step.

    Args:
        network: what the scheme is of; its batches are iterated once.
        scheme: with ranges, which the copies keep.
        samples: bound on those that are looked at.
    """
    graph = network.graph
    found = {link: step for link in links(graph) if (step := _step(scheme, link)) is not None}
    if not found:
        return network
    errors = _errors(scheme, list(found), network.batches, samples, network.report)
    candidates = [_Candidate(link, step, errors[link.maker.name], _cost(graph, link)) for link, step in found.items()]
    twice = _spend(candidates, MORE_WORK * sum(_work(graph, node) for node in graph))
    sources, offsets, normals = {}, {}, dict(network.normals)
    for candidate, channels in zip(candidates, twice, strict=True):
        name, count = candidate.link.maker.name, candidate.link.channels
        sources[name] = np.concatenate([np.arange(count), channels])
        offsets[name] = np.zeros(len(sources[name]))
        offsets[name][channels] = -candidate.step / 4
        offsets[name][count:] = candidate.step / 4
        if name in normals:
            old, at = normals[name], sources[name]
            normals[name] = Normal(mean=old.mean[at] + offsets[name], deviation=old.deviation[at])
    return network.rewritten(SplitChannels(sources, offsets), normals)


def _step(scheme: Scheme, link: Link) -> float | None:
    """The step that all readers of a link read its channels in; None where it is not one, or not coarse."""
    if not splits(link) or len(link.maker.inputs) < 3:
        return None
    types = [scheme.operand(node, node.inputs[0]) for node in link.readers]
    if any(scheme.trim(n) for n in link.readers) or not all(is_low(t.format) and t.format.uniform for t in types):
        return None
    scales = {t.scale for t in types}
    return scales.pop() if len(scales) == 1 else None


def _errors(
    scheme: Scheme, found: Sequence[Link], batches: Iterable[Feeds], samples: int, progress: Progress
) -> dict[str, Reals]:
    """By maker, what its channels' rounding, all else being float, adds to the outputs' relative squared error."""
    executor = FloatExecutor(scheme.graph)
    totals, shares = dict.fromkeys((k.maker.name for k in found), 0.0), {k.maker.name: np.zeros(1) for k in found}
    seen = 0
    for feeds in batches:
        if seen >= samples:
            break
        env = executor.run({name: x[: samples - seen] for name, x in feeds.items()})
        seen += len(next(iter(feeds.values())))
        for link in found:
            name = link.maker.name
            totals[name] += _at_outputs(scheme, executor, link, env)
            shares[name] = shares[name] + sum(_rounding(scheme, n, env) * _gain(scheme.graph, n) for n in link.readers)
        progress("look for coarse channels", seen, samples)
    return {name: totals[name] * shares[name] / max(float(shares[name].sum()), 1e-30) for name in totals}


def _at_outputs(scheme: Scheme, executor: FloatExecutor, link: Link, env: Env) -> float:
    """Relative squared error of the outputs where the readers of one link alone read codes."""
    changed: dict[str, torch.Tensor] = {}
    reads = {node.name for node in link.readers}
    for node in scheme.graph:
        if node.name in reads:
            changed[node.output] = executor.step(node, {node.inputs[0]: _read(scheme, node, env)})
        elif not changed.keys().isdisjoint(node.inputs):
            operands = {i: changed.get(i, env[i]) for i in scheme.graph.activations(node)}
            changed[node.output] = executor.step(node, operands)
    errors = ((changed.get(v, env[v]) - env[v]).square().sum() / env[v].square().sum() for v in scheme.graph.outputs)
    return float(sum(e.nan_to_num().item() for e in errors))


def _read(scheme: Scheme, node: Node, env: Env) -> torch.Tensor:
    value = node.inputs[0]
    return as_read(fake_quantize(env[value], scheme.stored(value)), scheme, node, value)


def _rounding(scheme: Scheme, node: Node, env: Env) -> Reals:
    """Mean squared error [channels] of what a node reads, as far as it is rounding: copies are clipped as well."""
    half = scheme.operand(node, node.inputs[0]).scale / 2
    error = (_read(scheme, node, env) - env[node.inputs[0]]).clamp(-half, half).double().square()
    return np.asarray(error.reshape(-1, error.shape[-1]).mean(dim=0).numpy())


def _gain(graph: Graph, node: Node) -> Reals:
    """[channels]: the power that a layer gives to noise on each of its inputs."""
    weights = np.asarray(graph.constants[node.inputs[1]], np.float64)
    return np.asarray(np.square(weights).reshape(-1, weights.shape[-1]).sum(axis=0))


def _work(graph: Graph, node: Node) -> float:
    """Multiplications of a layer for one sample; 0 of what is no layer."""
    if not isinstance(node.op, Layer):
        return 0.0
    places = math.prod(d or 1 for d in float_shape(graph.types[node.output])[1:-1])
    return float(np.asarray(graph.constants[node.inputs[1]]).size * places)


def _cost(graph: Graph, link: Link) -> float:
    """Multiplications of one channel."""
    return sum(_work(graph, node) for node in (link.maker, *link.readers)) / link.channels


def _spend(candidates: Sequence[_Candidate], budget: float) -> list[Places]:
    """Channels of every candidate that are made twice: most error per multiplication first."""
    chosen: list[list[int]] = [[] for _ in candidates]
    worth = [(-e / c.work, i, k) for i, c in enumerate(candidates) for k, e in enumerate(c.error) if e > 0]
    for _, i, channel in sorted(worth):
        if candidates[i].work <= budget:
            budget -= candidates[i].work
            chosen[i].append(channel)
    return [np.array(sorted(channels), dtype=np.int64) for channels in chosen]
