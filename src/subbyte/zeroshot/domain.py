"""Which numbers an input may hold: the walls between which samples are synthesized."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.errors import DataError
from subbyte.graph.ir import FloatType, Graph
from subbyte.ingest.preprocess import Preprocess

Floats = npt.NDArray[np.float32]
Interval: TypeAlias = tuple[float, float]
Domain: TypeAlias = Interval | Mapping[str, Interval] | None

BYTE_SCALES = (1 / 255, 1 / 256, 2 / 255, 1 / 128)
"""Factors of a preprocessing that say that samples are bytes."""


@dataclass(frozen=True, kw_only=True)
class Walls:
    """One input between its walls: ``low + (high - low) * unit`` with ``unit`` in 0..1 is what the network reads.

    Attributes:
        low: what the network reads for a sample that is ``domain[0]`` everywhere, [1, ...].
        high: the same for ``domain[1]``; lower than ``low`` under a negative scale.
        domain: of the samples, before preprocessing.
        layout: of the preprocessing.
    """

    low: Floats
    high: Floats
    domain: Interval
    layout: str

    @property
    def ends(self) -> Interval:
        """Smallest and largest number that the network reads."""
        return float(min(self.low.min(), self.high.min())), float(max(self.low.max(), self.high.max()))

    def samples(self, unit: Floats) -> Floats:
        """Samples before preprocessing, float32, batch first, in their own layout."""
        low, high = self.domain
        raw = np.clip(low + (high - low) * unit.astype(np.float64), low, high).astype(np.float32)
        if "->" in self.layout:
            raw = np.moveaxis(raw, -1, 1) if self.layout.startswith("nchw") else np.moveaxis(raw, 1, -1)
        return np.ascontiguousarray(raw)


class Synthetic(dict[str, Floats]):
    """Synthesized samples by input name; they know the domain that they stand for.

    Attributes:
        domains: smallest and largest number that the network reads in each input, after preprocessing.
    """

    def __init__(self, samples: Mapping[str, Floats], domains: Mapping[str, Interval]) -> None:
        super().__init__(samples)
        self.domains = dict(domains)

    def __reduce__(self) -> tuple[type[Synthetic], tuple[dict[str, Floats], dict[str, Interval]]]:
        """Pickled by its parts."""
        return Synthetic, (dict(self), self.domains)


def declared(graph: Graph, data: object) -> Graph:
    """The graph, with the domains of its inputs if the data is synthetic.

    Batch norms do not tell everything about inputs: a coefficient that the first layer hardly sees may lie anywhere in
    real samples. So the codes of an input cover its whole domain, not the samples (Kim et al. 2021 leave it to them).
    """
    if not isinstance(data, Synthetic):
        return graph
    found = {n: replace(t, domain=d) for n, d in data.domains.items() if isinstance(t := graph.types[n], FloatType)}
    return graph.evolve(types={**graph.types, **found})


def find_walls(graph: Graph, domain: Domain, preprocess: Preprocess | None) -> dict[str, Walls]:
    """The walls of every input by name.

    Args:
        graph: float.
        domain: smallest and largest number of a sample, before preprocessing; by input name where they differ. None
            where the preprocessing tells: a scale of 1/255 (or 1/256, 1/127.5, 1/128) is one for bytes, 0..255.
        preprocess: as for ``quantize``.

    Raises:
        DataError: nobody knows the domain of an input, or it is none.
    """
    if isinstance(domain, Mapping) and (strangers := [n for n in domain if n not in graph.inputs]):
        raise DataError(
            f"a domain is given for {strangers[0]!r}", f"inputs are {', '.join(graph.inputs)}", "rename it", "domain"
        )
    return {name: _walls(graph, name, domain, preprocess) for name in graph.inputs}


def _walls(graph: Graph, name: str, domain: Domain, preprocess: Preprocess | None) -> Walls:
    given = domain.get(name) if isinstance(domain, Mapping) else domain
    interval = _told(name, preprocess) if given is None else _checked(name, given)
    shape = (1, *(d or 1 for d in graph.types[name].shape[1:]))
    raw, process = shape, preprocess or Preprocess()
    if "->" in process.layout and len(shape) > 2:
        raw = (shape[0], shape[-1], *shape[1:-1]) if process.layout.startswith("nchw") else (1, *shape[2:], shape[1])
    low, high = (process(np.full(raw, end, np.float32)) for end in interval)
    return Walls(low=low, high=high, domain=interval, layout=process.layout)


def _told(name: str, preprocess: Preprocess | None) -> Interval:
    scale = preprocess.scale if preprocess else 1.0
    if any(math.isclose(scale, known, rel_tol=1e-4) for known in BYTE_SCALES):
        return 0.0, 255.0
    raise DataError(
        f"nothing says which numbers the input {name!r} holds",
        "synthetic samples lie in the domain of the real ones",
        "give the smallest and the largest number of a sample before preprocessing (domain 0,255 for bytes, 0,1 for "
        "images that are scaled already), or a preprocessing with scale 1/255",
        "synthetic data",
    )


def _checked(name: str, interval: Interval) -> Interval:
    ends = tuple(float(end) for end in interval)
    if len(ends) != 2 or not all(map(math.isfinite, ends)) or ends[0] >= ends[1]:
        raise DataError(
            f"the domain of {name!r} is {', '.join(f'{end:g}' for end in ends)}",
            "a domain is the smallest and the largest number, both finite",
            "give two numbers, the smaller one first",
            "synthetic data",
        )
    return ends[0], ends[1]
