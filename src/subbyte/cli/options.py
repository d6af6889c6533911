"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subbyte.errors import SubbyteError

if TYPE_CHECKING:
    from subbyte.graph.ir import Graph
    from subbyte.ingest.data import Preprocess
    from subbyte.model import QuantizedModel

MODEL_FILE = ".subbyte"


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What is done to each sample, ``(x * scale - mean) / std``; stored in the model file.

    Attributes:
        layout: axes of the samples: nhwc, nchw, nhwc->nchw or nchw->nhwc.
        mean: one number or one per channel, separated by commas.
        std: one number or one per channel, separated by commas.
        scale: factor, a number or a fraction such as 1/255.
    """

    layout: str = ""
    mean: str = ""
    std: str = ""
    scale: str = ""

    def given(self) -> Preprocess | None:
        """The preprocessing asked for; None where no option was given.

        Raises:
            SubbyteError: an option is no number, or the values do not go together.
        """
        from subbyte.ingest.data import Preprocess

        numbers = {name: _numbers(name, getattr(self, name)) for name in ("mean", "std", "scale")}
        values: dict[str, Any] = {name: value for name, value in numbers.items() if value}
        if "scale" in values:
            if len(values["scale"]) != 1:
                raise _no_number("scale", self.scale)
            values["scale"] = values["scale"][0]
        if self.layout:
            values["layout"] = self.layout
        return Preprocess(**values) if values else None

    def or_stored(self, metadata: dict[str, Any]) -> Preprocess | None:
        """The preprocessing asked for, else the one stored in a model file."""
        from subbyte.ingest.data import Preprocess

        given = self.given()
        stored = metadata.get("preprocess")
        if given is not None or not isinstance(stored, dict):
            return given
        try:
            return Preprocess.from_dict(stored)
        except (TypeError, ValueError) as error:
            raise SubbyteError(
                f"the stored preprocessing cannot be used: {error}",
                "it holds layout, mean, std and scale",
                "give the preprocessing as options",
                "metadata of the model file",
            ) from error


NO_PREPROCESSING = Preprocessing()


def float_model(path: Path) -> Graph:
    """The float graph of an ONNX file."""
    from subbyte.pipeline import load_model

    if path.suffix == MODEL_FILE:
        raise SubbyteError(
            f"{str(path)!r} is an integer model", "a float model is an .onnx file", "pass the ONNX file", "command line"
        )
    return load_model(path)


def integer_model(path: Path, threads: int = 1) -> QuantizedModel:
    """The integer model of a .subbyte file."""
    from subbyte.model import load

    if path.suffix == ".onnx":
        raise SubbyteError(
            f"{str(path)!r} is a float model",
            f"an integer model is a {MODEL_FILE} file",
            "make one with subbyte quantize",
            "command line",
        )
    return load(path, threads=threads)


def checked_seed(seed: int) -> int:
    """Refuse a seed that random generators or model files cannot hold."""
    if not 0 <= seed < 2**63:
        raise SubbyteError(f"--seed {seed}", "--seed lies in 0..2**63-1", "leave --seed out", "command line")
    return seed


def positive(**values: int | None) -> None:
    """Refuse options below 1."""
    for name, value in values.items():
        if value is not None and value < 1:
            raise SubbyteError(f"--{name} {value}", f"--{name} is 1 or more", f"leave --{name} out", "command line")


def output_path(path: Path, suffixes: tuple[str, ...], *inputs: Path) -> Path:
    """The path, after a check that it can be written; long work should not end in a typing error.

    Args:
        path: of the output.
        suffixes: one of which it ends in.
        inputs: files that it must not replace.
    """
    if path.suffix not in suffixes:
        rule = f"the output ends in {' or '.join(suffixes)}"
        raise SubbyteError(f"the output is {str(path)!r}", rule, "rename it", "command line")
    if not path.absolute().parent.is_dir() or path.is_dir():
        seen = f"there is no folder {str(path.parent)!r}" if not path.is_dir() else f"{str(path)!r} is a folder"
        raise SubbyteError(seen, "the output is a file in a folder that exists", "create the folder", "command line")
    for source in inputs:
        if path.exists() and source.exists() and path.samefile(source):
            seen = f"the output {str(path)!r} is also an input"
            raise SubbyteError(seen, "an output replaces no input", "give the output another name", "command line")
    return path


def _numbers(name: str, text: str) -> tuple[float, ...]:
    return tuple(_number(name, part) for part in text.split(",")) if text else ()


def _number(name: str, text: str) -> float:
    above, _, below = text.partition("/")
    read: Callable[[str], float] = float
    try:
        return read(above) / (read(below) if below else 1.0)
    except (ValueError, ZeroDivisionError):
        raise _no_number(name, text) from None


def _no_number(name: str, text: str) -> SubbyteError:
    rule = f"--{name} is {'one number' if name == 'scale' else 'numbers separated by commas'}, e.g. 0.5 or 1/255"
    return SubbyteError(f"--{name} {text!r}", rule, f"correct --{name}", "command line")
