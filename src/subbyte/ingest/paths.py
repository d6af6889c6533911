"""Data by path: .npz, .npy, a CSV of paths and labels, or a folder of arrays or images."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from subbyte.errors import DataError
from subbyte.ingest.sources import Array, Arrays, Files, Source, open_npy, unreadable

_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".webp", ".tif", ".tiff"})
_LABELS = ("y", "label", "labels")


class Opened(NamedTuple):
    """A source with what the path says about labels.

    Attributes:
        source: the samples.
        labels: int64 class number of each sample, or None.
        classes: names of the classes where the path gives names.
    """

    source: Source
    labels: npt.NDArray[np.int64] | None
    classes: tuple[str, ...] = ()


def open_path(path: Path) -> Opened:
    """The samples and labels at a path.

    * .npz: arrays by input name, or ``x`` for models of one input; labels in ``y``, ``label`` or ``labels``.
    * .npy: one array, batch axis first, no labels.
    * .csv: ``path,label`` per line, paths relative to the file; a header line is skipped.
    * folder with folders in it: one class per folder, in sorted order; .npy files and images of one sample each.
    * folder of files: .npy files (of one sample or a batch each) or images, in sorted order, no labels.

    Raises:
        DataError: nothing is there, it cannot be read, or holds no samples.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist", "data is a file or a folder", "check the path", str(path))
    if path.is_dir():
        return _folder(path)
    readers = {".npz": _npz, ".npy": _npy, ".csv": _csv}
    if path.suffix.lower() not in readers:
        raise DataError(
            f"{path.name} has the ending {path.suffix!r}",
            f"data is a folder or a file ending in {', '.join(readers)}",
            "convert it, e.g. with numpy.savez(path, x=x, y=y)",
            str(path),
        )
    return readers[path.suffix.lower()](path)


def _npz(path: Path) -> Opened:
    try:
        with path.open("rb") as file:  # ours, so that it is closed whatever np.load finds in it
            loaded = np.load(file, allow_pickle=False)
            arrays = {"x": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError, zlib.error) as error:
        raise unreadable(path, error) from error
    y = next((arrays.pop(name) for name in _LABELS if name in arrays), None)
    samples = {name: a for name, a in arrays.items() if a.ndim > 0}
    if not samples:
        raise DataError(
            f"{path.name} holds no array of samples", "samples are stored as x or by input name", "save them", str(path)
        )
    lengths = {len(a) for a in samples.values()}
    if y is not None and lengths != {len(np.atleast_1d(y))}:
        raise _labels_misfit(len(np.atleast_1d(y)), max(lengths), path)
    return Opened(Arrays(samples, str(path)), None if y is None else _class_numbers(y, path))


def _npy(path: Path) -> Opened:
    array = open_npy(path)
    if array.ndim == 0:
        raise DataError(f"{path.name} holds one number", "samples have a batch axis", "save an array", str(path))
    return Opened(Arrays({"": array}, str(path)), None)


def _class_numbers(y: Array, path: Path) -> npt.NDArray[np.int64]:
    if y.ndim == 1 and y.dtype.kind in "biuf":
        numbers = y.astype(np.int64)
        if np.array_equal(numbers, y) and (y.size == 0 or numbers.min() >= 0):
            return numbers
    raise DataError(
        f"labels are {y.dtype}{list(y.shape)}",
        "a label is one class number per sample, 0 or above",
        "store y as a one-dimensional integer array (numpy.argmax of one-hot rows)",
        str(path),
    )


def _labels_misfit(labels: int, samples: int, path: Path) -> DataError:
    return DataError(
        f"{labels} labels for {samples} samples", "there is one label per sample", "cut or complete them", str(path)
    )


def _csv(path: Path) -> Opened:
    try:
        with path.open(encoding="utf8", newline="") as file:
            lines = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(path, error) from error
    if lines and not (path.parent / lines[0][0]).exists() and lines[0][0].strip().lower() in {"path", "file", "image"}:
        lines = lines[1:]
    for number, row in enumerate(lines, 1):
        if len(row) < 2 or not (path.parent / row[0].strip()).is_file():
            raise DataError(
                f"entry {number} is {','.join(row)[:80]!r}",
                "an entry is an existing file, relative to the CSV, and a label",
                "correct the entry",
                str(path),
            )
    if not lines:
        raise _nothing(path, "a CSV lists one path,label per line")
    files = Files([path.parent / row[0].strip() for row in lines], str(path))
    return Opened(files, *_numbered([row[1].strip() for row in lines]))


def _numbered(names: Sequence[str]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Class numbers as they stand if all are numbers, else positions among the sorted names."""
    if all(name.isdecimal() for name in names):
        return np.array([int(name) for name in names], np.int64), ()
    classes = tuple(sorted(set(names)))
    return np.array([classes.index(name) for name in names], np.int64), classes


def _folder(path: Path) -> Opened:
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if folders:
        found = [(file, i) for i, folder in enumerate(folders) for file in _sample_files(folder.rglob("*"))]
        if found:
            labels = np.array([i for _, i in found], np.int64)
            return Opened(Files([f for f, _ in found], str(path)), labels, tuple(f.name for f in folders))
    files = _sample_files(path.iterdir())
    if not files:
        raise _nothing(path, "a folder holds .npy files or images, or one folder of them per class")
    return Opened(Files(files, str(path)), None)


def _sample_files(paths: Iterable[Path]) -> list[Path]:
    return sorted(
        p for p in paths if p.suffix.lower() in _IMAGES | {".npy"} and p.is_file() and not p.name.startswith(".")
    )


def _nothing(path: Path, rule: str) -> DataError:
    return DataError(f"{path} holds no samples", rule, "check the path", str(path))
