"""PyTorch modules as graphs, through ``torch.export`` without decomposition: layers stay whole."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from subbyte.errors import IngestError
from subbyte.graph.ir import Graph

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram


def trace(module: torch.nn.Module, example_inputs: Any) -> Graph:
    """A float graph of a module in evaluation mode.

    Weights carry the user's names (``layer1.0.conv1.weight``), nodes the path of the module that they came from. The
    batch is exported as a symbol; where the module's code insists on the example's batch size, that size is taken
    and stands for any. The module itself is not changed: training flags are put back, weights are copied.

    Args:
        module: any that ``torch.export`` can trace: no branches on data.
        example_inputs: a tensor or array, a tuple of them, or a dict by argument name; batch axis first.

    Returns:
        a graph whose inputs are named as the arguments of ``forward``.

    Raises:
        IngestError: branches on data, unsupported operators (all are listed with the user's module paths), weights
            that are not finite, or example inputs that the module does not take.
    """
    from torch import nn

    from subbyte.ingest.torch_graph import Importer

    if not isinstance(module, nn.Module):
        raise IngestError(
            f"the model is a {type(module).__name__}", "it is a torch.nn.Module", "pass the module itself", "trace"
        )
    name = type(module).__name__
    args, kwargs = _examples(example_inputs)
    batch = _batch_size(args, kwargs, name)
    with _evaluating(module):
        program = _export(module, args, kwargs, batch, name)
        return Importer(program, name, batch).run()


def _examples(given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments, arrays as tensors."""
    if isinstance(given, Mapping):
        return (), {name: _tensor(value) for name, value in given.items()}
    if isinstance(given, tuple | list):
        return tuple(map(_tensor, given)), {}
    return (_tensor(given),), {}


def _tensor(value: Any) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value


def _batch_size(args: Sequence[Any], kwargs: Mapping[str, Any], name: str) -> int:
    """The leading dimension that all tensors share."""
    import torch

    tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)]
    sizes = {t.shape[0] if t.dim() else 0 for t in tensors}
    if len(sizes) != 1 or 0 in sizes:
        raise IngestError(
            f"example inputs have the shapes {[list(t.shape) for t in tensors]}",
            "there is at least one tensor, and all have the same batch size of 1 or more as their first axis",
            "pass example inputs with a batch axis",
            name,
        )
    return int(sizes.pop())


@contextlib.contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every module's own flag back afterwards."""
    flags = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for m, flag in flags:
            m.training = flag


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch.export prints and logs the graphs that it fails on; what matters of it stands in the error."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _export(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], batch: int, name: str
) -> ExportedProgram:
    """The exported program, batch symbolic if the module allows it."""
    import torch

    def batched(thing: Any) -> Any:
        return {0: symbol} if isinstance(thing, torch.Tensor) else None

    def widened(thing: Any) -> Any:
        return torch.cat([thing, thing]) if isinstance(thing, torch.Tensor) and batch == 1 else thing

    symbol = torch.export.Dim("batch")
    dynamic = (*map(batched, args), *map(batched, kwargs.values()))
    shapes = dict(zip(kwargs, dynamic, strict=True)) if kwargs else dynamic
    with torch.no_grad(), _quiet():
        try:  # a symbol needs an example of 2 or more: torch takes 1 for a fixed size
            wide = tuple(map(widened, args)), {k: widened(v) for k, v in kwargs.items()}
            return torch.export.export(module, wide[0], wide[1], dynamic_shapes=shapes)
        except Exception:
            pass
        try:
            return torch.export.export(module, args, kwargs)
        except Exception as error:
            raise _untraceable(module, args, kwargs, name, error) from error


def _untraceable(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str, error: Exception
) -> IngestError:
    """Which of three: a module that fails by itself, branches on data, or something that torch.export cannot do."""
    text = str(error)
    try:
        module(*args, **kwargs)
    except Exception as own:
        return IngestError(
            f"{name} fails on the example inputs: {type(own).__name__}: {_first_line(str(own))}",
            "the module runs on its example inputs",
            "pass inputs of the shapes and dtypes that forward expects",
            name,
        )
    lines = re.findall(r'File "([^"]+)", line (\d+), in (\S+)\n\s*(.+)', text)
    place = f"{lines[-1][0]}, line {lines[-1][1]}, in {lines[-1][2]}: {lines[-1][3]}" if lines else name
    if "DataDependent" in type(error).__name__ or "data-dependent" in text.lower():
        return IngestError(
            f"{name} branches on the values of its input",
            "the same operators run for every input: shapes may steer Python code, values may not",
            "replace the branch by arithmetic, or trace the part without it",
            place,
        )
    return IngestError(
        f"torch.export cannot trace {name}: {type(error).__name__}: {_first_line(text)}",
        "the module can be exported by torch.export",
        "make torch.export.export(module, example_inputs) work first",
        place,
    )


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:300]
