"""What has been learned, block by block on disk, so that an interrupted run goes on behind its last finished block."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subbyte.digests import digest
from subbyte.errors import SubbyteError
from subbyte.files import atomic_write, read_file

if TYPE_CHECKING:
    from subbyte.distill.samples import Feeds
    from subbyte.quantization.layers import LayerWeights
    from subbyte.quantization.learning import Learning
    from subbyte.quantization.scheme import Scheme

Arrays = Sequence[npt.NDArray[np.float32]]


class BlockJournal:
    """Learned arrays by block number; with a path they are on disk before ``record`` returns.

    Args:
        path: an .npz file, created if missing; None keeps nothing.
        method: whose blocks are numbered.
        question: fingerprint of everything that decides the result.

    Raises:
        SubbyteError: the file is no journal, or one of another run.
    """

    def __init__(self, path: str | Path | None, method: str, question: str) -> None:
        self.path = None if path is None else Path(path)
        self.method, self.question = method, question
        self.entries: dict[str, npt.NDArray[Any]] = {}
        if self.path is not None and self.path.exists():
            self.entries = self._read(self.path)
            if str(self.entries.get(f"{method}/question", question)) != question:
                raise self._refused("it belongs to another network, recipe, seed, setting or set of samples")
        self.entries[f"{method}/question"] = np.array(question)

    def get(self, block: int) -> Arrays | None:
        """A finished block's arrays, or None."""
        count = self.entries.get(f"{self.method}/{block}")
        return None if count is None else [self.entries[f"{self.method}/{block}/{i}"] for i in range(int(count))]

    def record(self, block: int, arrays: Arrays) -> None:
        """Keep a finished block."""
        if self.path is None:
            return
        self.entries[f"{self.method}/{block}"] = np.array(len(arrays))
        self.entries |= {f"{self.method}/{block}/{i}": a for i, a in enumerate(arrays)}
        buffer = io.BytesIO()
        np.savez(buffer, **self.entries)  # type: ignore[arg-type]
        atomic_write(self.path, buffer.getvalue())

    def _read(self, path: Path) -> dict[str, npt.NDArray[Any]]:
        try:
            with np.load(io.BytesIO(read_file(path)), allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise self._refused(str(error)) from error

    def _refused(self, why: str) -> SubbyteError:
        return SubbyteError(
            f"the journal of {self.method} cannot be used: {why}",
            "a journal is what an earlier run of the same question wrote",
            "give another path, or delete the file to begin anew",
            f"file {str(self.path)!r}",
        )


def fingerprint(
    method: str, scheme: Scheme, layers: Mapping[str, LayerWeights], feeds: Feeds, settings: Learning, seed: int
) -> str:
    """Of everything that decides what a method learns."""
    told = {k: v for k, v in asdict(settings).items() if k not in {"journal", "device"}}
    parts: list[object] = [method, sorted(told.items()), seed, scheme.arithmetic]
    for node in scheme.graph:
        parts += [node.name, repr(node.op), node.inputs]
    for key, type_ in scheme.types.items():
        parts += [key, type_.scale, type_.zero_point]
    for name, layer in sorted(layers.items()):
        parts += [name, layer.weight.codes, layer.weight.scale, layer.bias]
    for name, x in sorted(feeds.items()):
        parts += [name, x]
    return digest(*map(_bytes, parts))


def _bytes(part: object) -> bytes:
    return np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else repr(part).encode()
