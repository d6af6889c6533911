"""Scale migration: channels with large activations shrink, and the next layer's weights grow by as much."""

from __future__ import annotations

import numpy as np

from subbyte.graph.passes.links import Reals, largest_by_input, links, rectify_of, rescalable
from subbyte.quantization.methods.equalization import MOST, allowed, limits, rescaled
from subbyte.quantization.methods.network import Network

ALPHA = 0.5
"""Share of the difficulty that moves from activations to weights; the paper's own value for most models."""


def smoothing(network: Network) -> Network:
    """SmoothQuant's factors between an affine, normalisation, convolution or linear layer and its readers.

    s = max|X| ** alpha / max|W| ** (1 - alpha) per channel, here with their geometric mean taken out, because a factor
    that is common to all channels changes nothing (Xiao et al. 2023, "SmoothQuant", section 4, equation 4). Channels
    that are always 0, or that nobody weighs, stay.
    """
    found = [k for k in links(network.graph) if rescalable(rectify_of(k.maker))]
    least, unbound = limits(network, found)
    seen = network.measure(found)
    factors: dict[str, Reals] = {}
    for link in found:
        name = link.maker.name
        if name not in seen:
            continue
        size = np.maximum(np.abs(seen[name].lo), np.abs(seen[name].hi))
        constants = [np.asarray(network.graph.constants[r.inputs[1]], np.float64) for r in link.readers]
        weight = np.max([largest_by_input(c, r.op) for c, r in zip(constants, link.readers, strict=True)], axis=0)
        alive = (size > 0) & (weight > 0)
        if not np.any(alive):
            continue
        ratio = np.where(alive, size, 1.0) ** ALPHA / np.where(alive, weight, 1.0) ** (1 - ALPHA)
        ratio = ratio / np.exp(np.log(ratio[alive]).mean())
        factors[name] = allowed(np.where(alive, np.clip(ratio, 1 / MOST, MOST), 1.0), least.get(name))
    return rescaled(network, factors, unbound)
