"""Calibration and evaluation data: whatever the user has, as a stream of checked float32 batches by input name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from subbyte.errors import DataError
from subbyte.ingest.feed import Feed, Inputs, input_shapes, to_array
from subbyte.ingest.paths import open_path
from subbyte.ingest.preprocess import Preprocess
from subbyte.ingest.sources import Array, Arrays, Dataset, Indices, Pieces, Source, Spool

__all__ = ["Calibration", "Labelled", "Preprocess", "batches", "labelled", "take"]

FeedDict = dict[str, npt.NDArray[np.float32]]


@final
class Calibration:
    """Batches that can be iterated any number of times, with the same samples in the same order.

    Args:
        source: samples by number.
        order: which of them, in which order.
        feed: checks and conversions; None where the source holds what passed them.
        batch_size: of all batches but the last.
    """

    def __init__(self, source: Source, order: Indices, feed: Feed | None, batch_size: int) -> None:
        self._source, self._order, self._feed, self._batch_size = source, order, feed, batch_size

    @property
    def samples(self) -> int:
        """Number of samples in one pass."""
        return int(self._order.size)

    def __len__(self) -> int:
        """Number of batches in one pass."""
        return (self.samples + self._batch_size - 1) // self._batch_size

    def __iter__(self) -> Iterator[FeedDict]:
        for start in range(0, self.samples, self._batch_size):
            indices = self._order[start : start + self._batch_size]
            yield self._read(indices)

    def _read(self, indices: Indices) -> FeedDict:
        rows, source = self._source.rows(indices), self._source
        if self._feed is None:
            return dict(rows)
        return self._feed(rows, source.place, lambda i: source.label(int(indices[i])))


def batches(
    data: Any,
    inputs: Inputs,
    *,
    batch_size: int = 32,
    limit: int | None = None,
    seed: int = 0,
    preprocess: Preprocess | None = None,
) -> Calibration:
    """Calibration data as float32 batches by input name.

    Args:
        data: one of: an array of samples (batch axis first); a dict of arrays by input name; a tuple of arrays, inputs
            first; a path (see ``paths.open_path``); a list of samples or batches; an object with ``len`` and ``[i]``
            that gives samples (a torch data set); any iterable of batches, such as a torch data loader or a generator.
            A sample or batch is an array or torch tensor, a tuple or list that starts with the inputs (labels after
            them are left out), or a dict by input name. Any real dtype is taken and cast.
        inputs: the graph, or the shapes of its inputs by name.
        batch_size: of the batches that come out, whatever the size of those that go in.
        limit: number of samples used at most.
        seed: of the order in which samples come. It is random, because data sorted by class is common and a few of
            the first samples must stand for all of them.
        preprocess: applied to every sample, once.

    Returns:
        batches for any number of passes. Memory holds one batch, not the data (.npz files and lists apart, which are in
        memory as they are). An iterable is read once, here, up to ``limit`` samples in its own order (shuffle it), into
        an unnamed temporary file.

    Raises:
        DataError: now or during iteration: nothing there, unreadable, misnamed, misshapen or not finite.
    """
    if batch_size < 1 or (limit is not None and limit < 1):
        raise DataError(
            f"batch_size {batch_size}, limit {limit}", "both are 1 or more", "correct them", "calibration data"
        )
    feed = Feed(input_shapes(inputs), preprocess)
    source, raw = _open(data, feed, limit)
    if len(source) == 0:
        raise DataError(
            "the data holds no samples", "calibration needs at least one", "pass some", source.place or "data"
        )
    order = np.random.default_rng(seed).permutation(len(source))[:limit]
    return Calibration(source, order.astype(np.intp), feed if raw else None, batch_size)


def take(data: Iterable[Mapping[str, Array]], limit: int) -> FeedDict:
    """The first ``limit`` samples of a stream of batches, joined into one; all of them if there are fewer.

    Raises:
        DataError: the stream is empty.
    """
    parts: list[FeedDict] = []
    missing = limit
    for batch in data:
        parts.append({name: x[:missing] for name, x in batch.items()})
        missing -= len(next(iter(parts[-1].values())))
        if missing <= 0:
            break
    if not parts:
        raise DataError("the data holds no samples", "at least one is needed", "pass some", "data")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _open(data: Any, feed: Feed, limit: int | None) -> tuple[Source, bool]:
    """The data as a source, and whether its samples are still raw."""
    if isinstance(data, str | Path):
        return open_path(Path(data)).source.fitted(feed.rank, feed.channels), True
    kind = f"calibration data ({type(data).__name__})"
    if isinstance(data, Mapping | tuple) or hasattr(data, "__array__") or hasattr(data, "detach"):
        return Arrays(feed.rows(data, kind), kind), True
    if isinstance(data, list):
        return Pieces([feed.rows(item, f"{kind}, element {i}") for i, item in enumerate(data)], kind), True
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        return Dataset(data, lambda item: feed.rows(item, kind, single=True), kind), True
    if isinstance(data, Iterable):
        return Spool(_stream(data, feed, limit, kind), kind), False
    raise DataError(
        f"the data is {type(data).__name__}",
        "data is an array, dict, path, list or iterable of batches",
        "pass one of these",
        "calibration data",
    )


def _stream(data: Iterable[Any], feed: Feed, limit: int | None, place: str) -> Iterator[FeedDict]:
    """Checked batches of an iterable, no more than ``limit`` samples in all."""
    seen = 0
    for item in data:
        rows = feed.rows(item, place)
        room = None if limit is None else limit - seen
        rows = {name: x[:room] for name, x in rows.items()}
        batch = feed(rows, place, partial(_number, seen))
        seen += len(next(iter(batch.values())))
        yield batch
        if seen == limit:
            return


def _number(first: int, index: int) -> str:
    return f"sample {first + index}"


@dataclass(frozen=True)
class Labelled:
    """Samples with their class numbers, in the order of the data.

    Attributes:
        source: the samples.
        labels: int64, one per sample; None where the data has none.
        classes: names of the classes where the data has them, by number.
    """

    source: Source
    labels: npt.NDArray[np.int64] | None
    classes: tuple[str, ...] = ()

    def batches(
        self,
        inputs: Inputs,
        *,
        batch_size: int = 32,
        limit: int | None = None,
        seed: int = 0,
        preprocess: Preprocess | None = None,
    ) -> Iterator[tuple[FeedDict, npt.NDArray[np.int64] | None]]:
        """Batches with their labels; with ``limit``, those of a random subset (seeded), still in order.

        Raises:
            DataError: as ``batches``.
        """
        feed = Feed(input_shapes(inputs), preprocess)
        source = self.source.fitted(feed.rank, feed.channels)
        size = len(source)
        if size == 0 or (self.labels is not None and len(self.labels) != size):
            raise DataError(
                f"{size} samples, {'no' if self.labels is None else len(self.labels)} labels",
                "there is at least one sample, and one label for each",
                "complete the data",
                source.place,
            )
        order = np.sort(np.random.default_rng(seed).permutation(size)[:limit]).astype(np.intp)
        data = Calibration(source, order, feed, batch_size)
        for number, batch in enumerate(data):
            chosen = order[number * batch_size : (number + 1) * batch_size]
            yield batch, None if self.labels is None else self.labels[chosen]


def labelled(data: str | Path | tuple[Any, Any]) -> Labelled:
    """Evaluation data: a path (see ``paths.open_path``) or the arrays (x, y).

    Raises:
        DataError: nothing is there or it cannot be read, or labels are no class numbers.
    """
    if isinstance(data, str | Path):
        opened = open_path(Path(data))
        return Labelled(opened.source, opened.labels, opened.classes)
    x, y = (to_array(part, "evaluation data") for part in data)
    return Labelled(Arrays({"": x}, "evaluation data"), y.astype(np.int64))
