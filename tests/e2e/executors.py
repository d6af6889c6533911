"""One question for many tests: do NumPy, torch and every native instruction set agree on every value?"""

from __future__ import annotations

import numpy as np

from subbyte.graph.ir import Graph
from subbyte.graph.torch_executor import run_integer
from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference
from tests.kernels.parity import ISAS, isa

Codes = dict[str, np.ndarray]


def check_agreement(graph: Graph, codes: Codes, threads: int = 1) -> Codes:
    """All values of the graph from the reference, after every other executor has given the same."""
    expected = run_reference(graph, codes, keep=True)
    _same(graph, expected, {name: np.asarray(v) for name, v in run_integer(graph, codes, keep=True).items()}, "torch")
    for name in ISAS:
        with isa(name):
            engine = Engine(graph, threads=threads)
        _same(graph, expected, engine.run_all(codes), name)
        outputs = engine.run(codes)  # another memory plan: values are overwritten once nobody needs them
        for value in graph.outputs:
            np.testing.assert_array_equal(outputs[value], expected[value], err_msg=f"{name}: output {value}")
    return expected


def _same(graph: Graph, expected: Codes, got: Codes, executor: str) -> None:
    for node in graph:
        np.testing.assert_array_equal(
            got[node.output], expected[node.output], err_msg=f"{executor}: {node.name} {node.op}"
        )
