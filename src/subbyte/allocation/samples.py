"""The samples of a search in two parts: on the first the network is quantized, on the second it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.allocation.divergence import agreement_interval
from subbyte.errors import DataError
from subbyte.graph.ir import Graph
from subbyte.ingest.data import Preprocess, batches, labelled, take
from subbyte.zeroshot.domain import Synthetic

Feeds = Mapping[str, npt.NDArray[np.float32]]

FIT = 256
"""Samples for ranges and weights: what ``quantize`` takes."""

LEAST = 16
"""With fewer samples in all, nothing can be promised."""

FEW = 200
"""Below this many judged samples the interval of an agreement is worth a word."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Float32 samples by input name, preprocessed.

    Attributes:
        fit: on these ranges and weights are found.
        judged: on these agreement and divergence are measured; none of them is in ``fit``.
        labels: class numbers of the judged samples; None where there are none.
        synthetic: whether they were made from the network's own statistics.
    """

    fit: Feeds
    judged: Feeds
    labels: npt.NDArray[np.int64] | None = None
    synthetic: bool = False

    @property
    def count(self) -> int:
        """How many samples are judged."""
        return len(next(iter(self.judged.values())))

    def caution(self, agreement: float) -> str:
        """What few judged samples imply for a measured agreement, in words; empty where there are enough."""
        if self.count >= FEW:
            return ""
        low, high = agreement_interval(agreement, self.count)
        return (
            f"only {self.count} samples are judged: one of them is {100 / self.count:.1f} points, and an agreement of "
            f"{agreement:.1f} % means {low:.1f} to {high:.1f} % (95 %) on other data"
        )


def split_samples(
    data: Any,
    graph: Graph,
    *,
    limit: int,
    seed: int,
    preprocess: Preprocess | None = None,
    labels: npt.ArrayLike | None = None,
) -> Samples:
    """The first ``FIT`` of a seeded random order, or half of them if there are fewer than twice as many; the rest.

    Args:
        data: as for ``quantize``.
        graph: whose inputs they are.
        limit: samples used at most.
        seed: of the order.
        preprocess: applied to every sample.
        labels: class numbers, one per sample of an array, dict or path, for promises about top-1; those of a labelled
            path are taken from there.

    Raises:
        DataError: fewer than 16 samples, or labels that are not one class number per sample.
    """
    found = batches(data, graph, limit=limit, seed=seed, preprocess=preprocess)
    feeds = take(found, limit)
    count = len(next(iter(feeds.values())))
    if count < LEAST:
        raise DataError(
            f"{count} samples",
            f"a search needs at least {LEAST}: half of them are judged, and one of 8 is 12.5 points of agreement",
            "give more unlabelled samples; 512 or more make an agreement certain to two points",
        )
    fit = min(FIT, count // 2)
    known = _labels(data, labels, limit, seed, count)
    return Samples(
        fit={n: x[:fit] for n, x in feeds.items()},
        judged={n: x[fit:] for n, x in feeds.items()},
        labels=None if known is None else known[fit:],
        synthetic=isinstance(data, Synthetic),
    )


def _labels(data: Any, given: npt.ArrayLike | None, limit: int, seed: int, count: int) -> npt.NDArray[np.int64] | None:
    """Labels in the order in which ``batches`` gives the samples; its order is the same permutation."""
    from pathlib import Path

    if given is not None:
        labels: npt.NDArray[Any] | None = np.asarray(given)
    elif isinstance(data, str | Path):
        labels = labelled(data).labels
    else:
        labels = None
    if labels is None:
        return None
    order = np.random.default_rng(seed).permutation(len(labels))[:limit] if labels.ndim == 1 else np.empty(0)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(order) != count:
        raise DataError(
            f"labels are {labels.dtype}{list(labels.shape)} for {count} samples",
            "there is one class number for each sample",
            "pass as many labels as samples, or none",
            "labels",
        )
    return np.asarray(labels[order], np.int64)
