"""Cross-layer equalization: neighbouring layers share out the spread of their channels."""

from __future__ import annotations

import numpy as np

from subbyte.graph.ir import Graph
from subbyte.graph.ops.affine import Affine
from subbyte.graph.passes.links import (
    End,
    Link,
    Reals,
    homogeneous,
    largest_by_input,
    links,
    rectify_of,
    rescalable,
    scaled_inputs,
    scaled_outputs,
)
from subbyte.graph.passes.rescale_channels import RescaleChannels
from subbyte.quantization.methods.network import Network
from subbyte.quantization.methods.normals import Normal

SWEEPS = 40
"""At most; depthwise chains of three layers settle in about ten."""

SETTLED = 1e-3
"""Largest change of a logarithm in the last sweep."""

MOST = 2.0**10
"""Of a factor, up and down: nearly dead channels do not blow up their readers."""

HEADROOM = 1.25
"""A bound counts as idle for what stays below it by this factor on the calibration data."""


def equalization(network: Network) -> Network:
    """Equalize weight ranges channel by channel along links of convolutions and linear layers.

    For neighbours with ranges r1 (output channels of the first) and r2 (input channels of the second) the factor
    s = sqrt(r1 / r2) makes both sqrt(r1 r2); sweeps over all links until nothing moves, which equalizes chains through
    depthwise convolutions too (Nagel et al. 2019, "Data-Free Quantization", section 4.1.2). Channels that are 0 on
    either side stay.

    ReLU6 and the like: the bound is one number for all channels. Where the calibration data leave it idle in every
    channel by ``HEADROOM`` it is dropped; else a channel that reaches it keeps its scale, and the others grow only as
    far as the bound stays idle.
    """
    found = [k for k in links(network.graph) if not any(isinstance(n.op, Affine) for n in (k.maker, *k.readers))]
    found = [k for k in found if rescalable(rectify_of(k.maker))]
    least, unbound = limits(network, found)
    factors = _equalized(network.graph, found, least)
    return rescaled(network, factors, unbound)


def limits(network: Network, found: list[Link]) -> tuple[dict[str, Reals], frozenset[str]]:
    """Smallest factors of bounded makers by name (above 1 never; inf keeps a channel), and makers to unbind."""
    bounded = [k for k in found if not homogeneous(rectify_of(k.maker))]
    least: dict[str, Reals] = {}
    unbound = set()
    for name, extremes in network.measure(bounded).items():
        (link,) = (k for k in bounded if k.maker.name == name)
        share = extremes.hi * HEADROOM / rectify_of(link.maker).hi
        if np.all(share <= 1):
            unbound.add(name)
        else:
            least[name] = np.where(share <= 1, share, np.inf)
    return least, frozenset(unbound)


def allowed(factors: Reals, least: Reals | None) -> Reals:
    """Factors that leave a bound idle."""
    if least is None:
        return factors
    return np.where(np.isinf(least), 1.0, np.maximum(factors, np.where(np.isinf(least), 1.0, least)))


def rescaled(network: Network, factors: dict[str, Reals], unbound: frozenset[str]) -> Network:
    """The network with its channels rescaled, and what its batch norms say of them."""
    normals = dict(network.normals)
    for name, s in factors.items():
        if name in normals:
            normals[name] = Normal(mean=normals[name].mean / s, deviation=normals[name].deviation / s)
    return network.rewritten(RescaleChannels(factors, unbound), normals)


def _equalized(graph: Graph, found: list[Link], least: dict[str, Reals]) -> dict[str, Reals]:
    """Factors by maker: geometric means of ranges, link by link, until a sweep changes nothing."""
    names = {n.name: n.inputs[1] for k in found for n in (k.maker, *k.readers)}
    weights = {name: np.asarray(graph.constants[constant], np.float64) for name, constant in names.items()}
    factors = {k.maker.name: np.ones(k.channels) for k in found}
    for _ in range(SWEEPS):
        moved = 0.0
        for link in found:
            name = link.maker.name
            first = np.abs(weights[name].reshape(link.channels, -1)).max(axis=1)
            second = np.max([largest_by_input(weights[r.name], r.op) for r in link.readers], axis=0)
            alive = (first > 0) & (second > 0)
            wanted = factors[name] * np.sqrt(np.where(alive, first, 1.0) / np.where(alive, second, 1.0))
            wanted = allowed(np.clip(wanted, 1 / MOST, MOST), least.get(name))
            step = wanted / factors[name]
            factors[name] = wanted
            weights[name] = scaled_outputs(weights[name], 1 / step)
            for r in link.readers:
                assert isinstance(r.op, End)
                weights[r.name] = scaled_inputs(weights[r.name], r.op, step)
            moved = max(moved, float(np.abs(np.log(step)).max()))
        if moved < SETTLED:
            break
    return factors
