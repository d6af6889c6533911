"""QuantizedModel: what the user holds. It composes runtime and report and owns no rule."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic import boundary
from subbyte.errors import RunError
from subbyte.graph.ir import Graph, IntType
from subbyte.runtime.engine import Engine
from subbyte.runtime.modelfile import load_model_file, save_model, to_bytes
from subbyte.runtime.reference import run_reference

if TYPE_CHECKING:
    from subbyte.ingest.data import Preprocess

Array = npt.NDArray[Any]


def provenance(recipe: str, arithmetic: str, samples: int, seed: int, preprocess: Preprocess | None) -> dict[str, Any]:
    """What a model file says about how the model was made; no time, no host: same model, same bytes."""
    import subbyte

    made: dict[str, Any] = {"recipe": recipe, "arithmetic": arithmetic, "samples": samples, "seed": seed}
    made["subbyte"] = subbyte.__version__
    if preprocess is not None:
        made["preprocess"] = preprocess.to_dict()
    return made


def load(path: str | Path, threads: int = 1) -> QuantizedModel:
    """A model from a .subbyte file; needs NumPy and the native extension only.

    Raises:
        ModelFileError: the file is damaged, inconsistent or of an unknown version.
    """
    graph, metadata = load_model_file(Path(path))
    return QuantizedModel(graph, metadata, threads=threads)


class QuantizedModel:
    """An integer-only network: call it with NumPy arrays.

    Args:
        graph: verified integer graph.
        metadata: recipe, arithmetic, preprocessing and other facts that travel in the file.
        threads: of the native engine.
    """

    def __init__(self, graph: Graph, metadata: Mapping[str, Any], threads: int = 1) -> None:
        self.graph = graph
        self.metadata = dict(metadata)
        self.threads = threads

    @cached_property
    def engine(self) -> Engine:
        """The native engine, built at first use."""
        return Engine(self.graph, threads=self.threads)

    @cached_property
    def nbytes(self) -> int:
        """Size of the model's file in bytes."""
        return len(to_bytes(self.graph, self.metadata))

    def __call__(self, x: Array | Mapping[str, Array]) -> Any:
        """Run on the native engine.

        Args:
            x: float32 reals in the user's layout, batch first (or stored integers, if the dtype is the input's), or a
                dict of them by input name.

        Returns:
            float32 reals (int64 positions where the output is an argmax); a dict by output name where there are
            several outputs.

        Raises:
            RunError: wrong names, shapes or dtypes, or values that are not finite.
        """
        quick = self.engine.quick(x, reals=True)
        if quick is not None:
            return quick
        feeds = self._named(x)
        for name, array in feeds.items():
            self._check_dtype(name, array)
        reals = self.engine.run_reals(feeds)
        return next(iter(reals.values())) if len(reals) == 1 else reals

    def run_codes(self, codes: Array | Mapping[str, Array]) -> dict[str, Array]:
        """Stored integers in, stored integers out, on the native engine."""
        return dict(self.engine.run(self._named(codes)))

    def reference(self, codes: Array | Mapping[str, Array], keep: bool = False) -> dict[str, Array]:
        """The same from the NumPy reference; all values where ``keep``."""
        return dict(run_reference(self.graph, self._named(codes), keep=keep))

    def encode(self, x: Array | Mapping[str, Array]) -> dict[str, Array]:
        """Inputs as stored integers."""
        return {name: self._encode(name, array) for name, array in self._named(x).items()}

    def save(self, path: str | Path) -> int:
        """Write the .subbyte file (whole or not at all); returns its size in bytes."""
        return save_model(Path(path), self.graph, self.metadata)

    def summary(self) -> str:
        """A table of layers, formats, proved accumulator widths, multiply-accumulates and bytes in the file."""
        from subbyte.summary import summary

        return summary(self.graph, self.metadata)

    def compare(self, float_graph: Graph, data: Mapping[str, Array] | Array) -> list[LayerComparison]:
        """Per layer, float against integer, worst layers first (see ``comparison.compare``)."""
        from subbyte.comparison import compare

        return compare(self, float_graph, self._named(data))

    def _named(self, x: Array | Mapping[str, Array]) -> dict[str, Array]:
        names = self.graph.inputs
        if isinstance(x, Mapping):
            if set(x) != set(names):
                raise RunError(f"inputs {sorted(x)}", f"the model's inputs are {list(names)}", "name each of them")
            return {name: np.asarray(x[name]) for name in names}
        if len(names) != 1:
            raise RunError("one array", f"the model's inputs are {list(names)}", "pass a dict of arrays by name")
        return {names[0]: np.asarray(x)}

    def _type(self, name: str) -> IntType:
        type_ = self.graph.types[name]
        assert isinstance(type_, IntType)
        return type_

    def _encode(self, name: str, x: Array) -> Array:
        type_ = self._type(name)
        self._check_dtype(name, x)
        if x.dtype == np.dtype(type_.storage):
            return x
        return boundary.quantize(x, type_.scale, type_.zero_point, type_.lo, type_.hi, type_.storage)

    def _check_dtype(self, name: str, x: Array) -> None:
        storage = self._type(name).storage
        if x.dtype not in (np.float32, np.dtype(storage)):
            raise RunError(
                f"input {name!r} has dtype {x.dtype}",
                f"inputs are float32 reals or {storage} stored integers",
                "call x.astype(numpy.float32)",
            )


if TYPE_CHECKING:
    from subbyte.comparison import LayerComparison
