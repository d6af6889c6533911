"""Outlier channel splitting: the channel with the largest weight is made twice and weighs half as much each time."""

from __future__ import annotations

import math

import numpy as np

from subbyte.graph.passes.links import Link, links
from subbyte.graph.passes.split_channels import Places, SplitChannels, splits
from subbyte.quantization.methods.network import Network
from subbyte.quantization.methods.normals import Normal

SHARE = 0.02
"""Of the channels of a link that are made twice, rounded up; the paper tries 0.01 to 0.1."""


def channel_splitting(network: Network) -> Network:
    """Split the input channels with the largest weights, one after the other, in every link that allows it.

    Source: Zhao et al. 2019, "Improving Neural Network Quantization without Retraining using Outlier Channel
    Splitting", section 3. It costs channels: two more in a hundred, and their work.
    """
    sources: dict[str, Places] = {}
    normals = dict(network.normals)
    for link in links(network.graph):
        if not splits(link):
            continue
        name = link.maker.name
        sources[name] = _sources(network, link)
        if name in normals:
            normal = normals[name]
            normals[name] = Normal(mean=normal.mean[sources[name]], deviation=normal.deviation[sources[name]])
    return network.rewritten(SplitChannels(sources), normals)


def _sources(network: Network, link: Link) -> Places:
    """The old channels, then those that are made once more."""
    constants = [np.asarray(network.graph.constants[r.inputs[1]], np.float64) for r in link.readers]
    largest = np.max([np.abs(c.reshape(-1, link.channels)).max(axis=0) for c in constants], axis=0)
    copies = np.ones(link.channels)
    more = []
    for _ in range(math.ceil(SHARE * link.channels)):
        worst = int(np.argmax(largest / copies))
        copies[worst] += 1
        more.append(worst)
    return np.concatenate([np.arange(link.channels), np.array(more, dtype=np.int64)])
