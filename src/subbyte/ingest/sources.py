"""Where samples come from: one class per kind of source, each read by sample number with only those rows in memory."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, final

import numpy as np
import numpy.typing as npt

from subbyte.errors import DataError

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]
Rows = Mapping[str, Array]
"""Raw samples, batch axis first, by name; the one name ``""`` where the source knows none."""


class Source(ABC):
    """A known number of samples, read by number.

    Attributes:
        place: for errors: the path, or what kind of object it is.
    """

    place: str = ""

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def rows(self, indices: Indices) -> Rows:
        """The samples of these numbers, in this order."""

    def label(self, index: int) -> str:
        """How errors call a sample."""
        return f"sample {index}"

    def fitted(self, rank: int, channels: int | None) -> Source:
        """The source once the model's input is known: its rank with the batch axis, its image channels if any."""
        del rank, channels
        return self


@final
class Arrays(Source):
    """Whole arrays by name; memory-mapped ones stay on disk.

    Raises:
        DataError: the arrays have different numbers of samples.
    """

    def __init__(self, arrays: Mapping[str, Array], place: str) -> None:
        self.place = place
        self._arrays = dict(arrays)
        lengths = {name: len(a) for name, a in self._arrays.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(
                f"numbers of samples differ: {lengths}",
                "every input has the same number of samples",
                "cut them to the same length",
                place,
            )
        self._size = next(iter(lengths.values()))

    def __len__(self) -> int:
        return self._size

    def rows(self, indices: Indices) -> Rows:
        """Copies of the rows."""
        return {name: np.asarray(array[indices]) for name, array in self._arrays.items()}


@final
class Pieces(Source):
    """Many small collections of rows one after the other (a list of batches, a folder of .npy files).

    Args:
        pieces: arrays by name each, batch axis first; alike in all but the number of rows.
        place: for errors.
    """

    def __init__(self, pieces: Sequence[Rows], place: str) -> None:
        self.place = place
        sources = [Arrays(piece, f"{place}, element {i}") for i, piece in enumerate(pieces)]
        self._pieces = [s for s in sources if len(s)]
        self._starts = np.cumsum([0, *map(len, self._pieces)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def rows(self, indices: Indices) -> Rows:
        """Copies of the rows, gathered one by one."""
        owners = np.searchsorted(self._starts, indices, side="right") - 1
        found = [self._pieces[p].rows(np.array([i - self._starts[p]])) for p, i in zip(owners, indices, strict=True)]
        return joined(found, self.place)


@final
class Dataset(Source):
    """An object with ``len()`` and ``[i]`` that gives one sample at a time, such as a map-style torch data set.

    Args:
        items: the object.
        rows_of: from one of its items to rows.
        place: for errors.
    """

    def __init__(self, items: Any, rows_of: Callable[[Any], Rows], place: str) -> None:
        self.place = place
        self._items, self._rows_of = items, rows_of

    def __len__(self) -> int:
        return len(self._items)

    def rows(self, indices: Indices) -> Rows:
        """The items, decoded now."""
        return joined([self._rows_of(self._items[int(i)]) for i in indices], self.place)


@final
class Files(Source):
    """Files of one sample each: images (Pillow decodes them, height x width x channels) or .npy arrays.

    A folder of .npy files may also hold one batch each, which shows when the model's input is known (``fitted``).

    Args:
        paths: in order.
        place: for errors.
        channels: 1, 3 or 4 converts images to grey, RGB or RGBA; None leaves grey and RGB as they are.
    """

    def __init__(self, paths: Sequence[Path], place: str, channels: int | None = None) -> None:
        self.place = place
        self.paths = tuple(paths)
        self._channels = channels

    def __len__(self) -> int:
        return len(self.paths)

    def rows(self, indices: Indices) -> Rows:
        """Decoded files."""
        return joined([{"": self._read(self.paths[i])[None]} for i in indices], self.place)

    def label(self, index: int) -> str:
        """The file's path."""
        return str(self.paths[index])

    def fitted(self, rank: int, channels: int | None) -> Source:
        """Files of batches as their rows; images converted to this many channels."""
        if all(p.suffix.lower() == ".npy" for p in self.paths) and open_npy(self.paths[0]).ndim == rank:
            return Pieces([{"": open_npy(p)} for p in self.paths], self.place)
        return Files(self.paths, self.place, channels)

    def _read(self, path: Path) -> Array:
        return open_npy(path) if path.suffix.lower() == ".npy" else read_image(path, self._channels)


@final
class Spool(Source):
    """Rows of a stream, kept in unnamed temporary files so that they can be read again with flat memory."""

    def __init__(self, batches: Iterator[Mapping[str, npt.NDArray[np.float32]]], place: str) -> None:
        import tempfile

        self.place = place
        self._files: dict[str, IO[bytes]] = {}
        weakref.finalize(self, _close, self._files)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._size = 0
        for batch in batches:
            for name, array in batch.items():
                if name not in self._files:
                    self._files[name] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the spool
                    self._shapes[name] = array.shape[1:]
                self._files[name].write(np.ascontiguousarray(array, np.float32).tobytes())
            self._size += len(next(iter(batch.values())))

    def __len__(self) -> int:
        return self._size

    def rows(self, indices: Indices) -> Rows:
        """Read back from disk."""
        return {name: np.stack([self._row(name, int(i)) for i in indices]) for name in self._files}

    def _row(self, name: str, index: int) -> Array:
        shape = self._shapes[name]
        nbytes = 4 * int(np.prod(shape))
        self._files[name].seek(index * nbytes)
        return np.frombuffer(self._files[name].read(nbytes), np.float32).reshape(shape)


def _close(files: Mapping[str, IO[bytes]]) -> None:
    for file in files.values():
        file.close()


def joined(pieces: Sequence[Rows], place: str) -> Rows:
    """Rows concatenated; DataError where they have different shapes or names."""
    first = pieces[0]
    for piece in pieces:
        seen, wanted = ({n: a.shape[1:] for n, a in p.items()} for p in (piece, first))
        if seen != wanted:
            raise DataError(
                f"samples differ: {_shapes(seen)} and {_shapes(wanted)}",
                "all samples have one shape",
                "resize or crop them to the model's input",
                place,
            )
    return {name: np.concatenate([p[name] for p in pieces]) for name in first}


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name or 'shape'} {list(shape)}" for name, shape in shapes.items())


def open_npy(path: Path) -> Array:
    """An array of a .npy file, left on disk where possible; DataError if it cannot be read."""
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(path, error) from error


def read_image(path: Path, channels: int | None) -> Array:
    """Height x width x channels, uint8 (or the image's own integers); DataError if it cannot be read."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            "Pillow is not installed",
            "it decodes image files",
            "pip install pillow, or pass arrays as .npz",
            str(path),
        ) from error
    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    try:
        with Image.open(path) as image:
            own = "L" if image.mode in {"1", "L"} else "RGB"
            array = np.asarray(image.convert(modes.get(channels or 0, own)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise unreadable(path, error) from error
    return array if array.ndim == 3 else array[:, :, None]


def unreadable(path: Path, error: Exception) -> DataError:
    """The error of a file that exists but does not decode, or does not exist."""
    text = str(error) or type(error).__name__
    return DataError(f"{path.name} cannot be read: {text}", "data files are whole and readable", "check it", str(path))
