"""From raw samples to what the network is fed: names, preprocessing, dtype, shape, finiteness, all checked here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subbyte.errors import DataError
from subbyte.graph.ir import Graph, Shape
from subbyte.ingest.preprocess import Preprocess
from subbyte.ingest.sources import Array, Rows

Inputs = Graph | Mapping[str, Shape]
"""A graph, or the shapes of its inputs by name, BATCH first."""


def input_shapes(inputs: Inputs) -> dict[str, Shape]:
    """Shapes of the inputs by name, in order."""
    if isinstance(inputs, Graph):
        return {name: inputs.types[name].shape for name in inputs.inputs}
    return dict(inputs)


@dataclass(frozen=True)
class Feed:
    """Checks and converts raw samples for a model's inputs.

    Attributes:
        shapes: of the inputs by name, BATCH first.
        preprocess: applied to every input, or None.
    """

    shapes: Mapping[str, Shape]
    preprocess: Preprocess | None

    @property
    def channels(self) -> int | None:
        """Channels of the first input seen as an image; None where it is none."""
        shape = next(iter(self.shapes.values()))
        if len(shape) != 4:
            return None
        layout = self.preprocess.layout if self.preprocess else ""
        channels = shape[1] if layout.endswith("nchw") else shape[3]
        return channels if channels in {1, 3, 4} else None

    @property
    def rank(self) -> int:
        """Rank of the first input, batch axis counted."""
        return len(next(iter(self.shapes.values())))

    def rows(self, item: Any, place: str, *, single: bool | None = None) -> Rows:
        """One item of a list or stream as rows by input name.

        Args:
            item: an array, a tuple whose first entries are the inputs, or a mapping by input name.
            place: for errors.
            single: True where the item is one sample, False where it is a batch, None where its rank tells.
        """
        named = _named(item, tuple(self.shapes), place)
        rows = {}
        for name, value in named.items():
            array = to_array(value, place)
            lone = array.ndim == len(self.shapes[name]) - 1 if single is None else single
            rows[name] = array[None] if lone else array
            if rows[name].ndim == 0:
                raise DataError(f"{name!r} is one number", "a batch has a batch axis", "pass arrays", place)
        return rows

    def __call__(self, raw: Rows, place: str, label: Callable[[int], str]) -> dict[str, Array]:
        """Preprocessed float32 batches by input name.

        Any real numeric dtype is taken and cast as it is: bytes become 0.0 .. 255.0 unless ``preprocess`` says more.

        Raises:
            DataError: a name, dtype or shape does not fit, or a value is not finite.
        """
        feed = {}
        for name, array in _named(raw, tuple(self.shapes), place).items():
            if array.dtype.kind not in "biuf":
                raise DataError(
                    f"{name!r} has the dtype {array.dtype}", "samples are real numbers", "convert them", place
                )
            with np.errstate(over="ignore"):  # becomes infinite, which is refused below with its sample
                x = self.preprocess(array) if self.preprocess else np.array(array, np.float32, order="C")
            self._check_shape(name, x, place)
            _check_finite(name, x, place, label)
            feed[name] = x
        sizes = {name: len(x) for name, x in feed.items()}
        if len(set(sizes.values())) > 1:
            raise DataError(
                f"numbers of samples differ: {sizes}", "a batch has as many samples in every input", "cut them", place
            )
        return feed

    def _check_shape(self, name: str, x: Array, place: str) -> None:
        wanted, seen = self.shapes[name][1:], x.shape[1:]
        if seen == wanted:
            return
        remedy = "reshape, resize or crop the data to the model's input"
        for layout, turned in (("nhwc->nchw", (seen[-1:] + seen[:-1])), ("nchw->nhwc", (seen[1:] + seen[:1]))):
            if turned == wanted:
                remedy = f"give preprocess the layout {layout!r}, or transpose the data"
        raise DataError(
            f"a sample of {name!r} has the shape {list(seen)}", f"the model takes {list(wanted)}", remedy, place
        )


def to_array(value: Any, place: str) -> Array:
    """A NumPy view or copy of an array, torch tensor or nested list; DataError if it is none."""
    if hasattr(value, "detach"):  # torch tensor: may need a gradient, or live on another device
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
        return np.asarray(value.numpy())
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"an item is no array: {error}", "samples have one shape", "convert them", place) from error
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"an item is {type(value).__name__} of dtype {array.dtype}", "samples are real numbers", "convert it", place
        )
    return array


def _named(item: Any, names: Sequence[str], place: str) -> dict[str, Any]:
    """What belongs to each input, by name; further entries (labels) are left out."""
    if isinstance(item, Mapping):
        return _by_name(item, names, place)
    if isinstance(item, tuple | list) and item and any(hasattr(part, "shape") for part in item):
        parts = list(item)
    else:
        parts = [item]
    if len(parts) < len(names):
        raise DataError(
            f"an item has {len(parts)} arrays",
            f"the model has the inputs {list(names)}",
            "pass a tuple of them in this order, or a dict by name",
            place,
        )
    return dict(zip(names, parts, strict=False))


def _by_name(item: Mapping[str, Any], names: Sequence[str], place: str) -> dict[str, Any]:
    if all(name in item for name in names):
        return {name: item[name] for name in names}
    if len(names) == 1:
        for key in ("x", ""):
            if key in item:
                return {names[0]: item[key]}
        if len(item) == 1:
            return {names[0]: next(iter(item.values()))}
    keys = [key for key in item if key] or ["one unnamed array"]
    raise DataError(
        f"the data holds {', '.join(map(repr, keys))}",
        f"it holds every input by name: {', '.join(map(repr, names))}",
        "rename the arrays" + (" (or call the only one 'x')" if len(names) == 1 else ""),
        place,
    )


def _check_finite(name: str, x: Array, place: str, label: Callable[[int], str]) -> None:
    bad = ~np.isfinite(x)
    if not bad.any():
        return
    where = tuple(int(i) for i in np.argwhere(bad)[0])
    raise DataError(
        f"{label(where[0])} holds {x[where]} in {name!r} at {list(where[1:])}",
        "samples are finite in float32",
        "repair or drop the sample",
        place,
    )
