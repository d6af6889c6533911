"""The torch executor: a float graph differentiably, an integer graph bit for bit like the NumPy reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from subbyte.errors import GraphError
from subbyte.formats.qtensor import QTensor
from subbyte.graph.feeds import check_codes, check_feeds
from subbyte.graph.ir import Graph, Node
from subbyte.graph.ops.op import IntCall

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch
    from torch import Tensor

    Observed = Callable[[str, Tensor], Tensor | None]


class FloatExecutor:
    """Runs a float graph; its constants are converted once and may be replaced by parameters.

    Attributes:
        graph: in the float dialect.
        constants: float32 tensors by name.
    """

    def __init__(self, graph: Graph, device: torch.device | str = "cpu") -> None:
        import torch

        self.graph = graph
        self.constants: dict[str, Tensor] = {}
        for name, constant in graph.constants.items():
            if isinstance(constant, QTensor):
                raise GraphError(
                    f"constant {name!r} is quantized",
                    "constants of the float dialect are float32 arrays",
                    "run an integer graph with run_integer",
                    f"graph {graph.name!r}",
                )
            self.constants[name] = torch.tensor(constant, device=device)

    def step(self, node: Node, env: Mapping[str, Tensor]) -> Tensor:
        """The result of one node; ``env`` holds at least its activations and is left alone."""
        return node.op.torch(*(env[n] if n in env else self.constants[n] for n in node.inputs))

    def run(
        self, feeds: Mapping[str, Tensor | npt.NDArray[np.float32]], on_value: Observed | None = None
    ) -> dict[str, Tensor]:
        """Every value of the graph by name, inputs included.

        Args:
            feeds: float32 by input name, batch first.
            on_value: called with (name, tensor) as each value appears; what it returns, unless None, takes the
                value's place for all its readers.

        Raises:
            RunError: names or shapes differ from the graph's inputs.
        """
        check_feeds(self.graph, feeds)
        env: dict[str, Tensor] = {}
        for name in self.graph.inputs:
            env[name] = _seen(on_value, name, _tensor(feeds[name]))
        for node in self.graph:
            env[node.output] = _seen(on_value, node.output, self.step(node, env))
        return env


def run_float(
    graph: Graph, feeds: Mapping[str, Tensor | npt.NDArray[np.float32]], on_value: Observed | None = None
) -> dict[str, Tensor]:
    """Every value of a float graph by name; see ``FloatExecutor.run``. The device is that of the feeds."""
    first = next(iter(feeds.values()), None)
    device = "cpu" if first is None or isinstance(first, np.ndarray) else first.device
    return FloatExecutor(graph, device).run(feeds, on_value)


def run_integer(
    graph: Graph, codes: Mapping[str, npt.NDArray[Any]], keep: bool = True, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Values of an integer graph as int64 tensors, the same numbers as ``runtime.reference.run_reference``.

    Args:
        graph: in the integer dialect, verified.
        codes: stored integers by input name, batch first.
        keep: all values; otherwise the graph's outputs alone.
        device: where to compute.

    Raises:
        RunError: names, shapes or codes differ from the graph's inputs.
    """
    import torch

    check_codes(graph, codes)
    env = {name: torch.tensor(np.asarray(codes[name], dtype=np.int64), device=device) for name in graph.inputs}
    with torch.no_grad():
        for node in graph:
            env[node.output] = node.op.torch_int(IntCall.of(graph, node, env))
    return env if keep else {name: env[name] for name in graph.outputs}


def _tensor(feed: Tensor | npt.NDArray[np.float32]) -> Tensor:
    import torch

    return torch.tensor(feed, dtype=torch.float32) if isinstance(feed, np.ndarray) else feed


def _seen(on_value: Observed | None, name: str, value: Tensor) -> Tensor:
    replacement = None if on_value is None else on_value(name, value)
    return value if replacement is None else replacement
