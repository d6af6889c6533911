"""High biases move on: what a channel always has at least is none of its range's business."""

from __future__ import annotations

import numpy as np

from subbyte.graph.passes.absorb_offsets import AbsorbOffsets, absorbs
from subbyte.graph.passes.links import Reals, links
from subbyte.quantization.methods.network import Network
from subbyte.quantization.methods.normals import Normal

DEVIATIONS = 3.0
"""Below the mean there is next to nothing: 0.13 % of a normal distribution."""


def bias_absorption(network: Network) -> Network:
    """Let the next layer's bias take in what ReLU'd channels have at least.

    c = max(0, beta - 3 gamma) where batch norms say so (Nagel et al. 2019, "Data-Free Quantization", section 4.1.3),
    elsewhere the smallest number of the channel in the calibration data. Its use follows equalization, which makes
    biases high. Links with padding or clipping behind them are left alone.
    """
    found = [k for k in links(network.graph) if absorbs(k)]
    seen = network.measure(k for k in found if k.maker.name not in network.normals)
    offsets: dict[str, Reals] = {}
    normals = dict(network.normals)
    for link in found:
        name = link.maker.name
        if name in normals:
            normal = normals[name]
            offsets[name] = np.maximum(normal.mean - DEVIATIONS * normal.deviation, 0.0)
            normals[name] = Normal(mean=normal.mean - offsets[name], deviation=normal.deviation)
        elif name in seen:
            offsets[name] = np.maximum(seen[name].lo, 0.0)
    return network.rewritten(AbsorbOffsets(offsets), normals)
