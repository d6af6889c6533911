"""Tiny ONNX models, and the comparison of what we read with what onnxruntime computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

from subbyte.graph.ir import Graph
from subbyte.graph.torch_executor import run_float
from subbyte.ingest.onnx_file import load_onnx
from tests.limits import FLOAT_REL_ERROR

OPSETS = (11, 13, 18, 23)
"""Before and after attributes became operands, and one of the newest that onnxruntime runs."""


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str] | str = "y", **attributes: Any) -> onnx.NodeProto:
    """A node; one output may be given as a string."""
    outputs = [outputs] if isinstance(outputs, str) else outputs
    return helper.make_node(kind, list(inputs), list(outputs), name=f"node_of_{outputs[0]}", **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str | None] = ("n", 4),
    *,
    constants: Mapping[str, Any] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
    result: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model of one input x; constants that are no arrays become float32."""
    arrays = {k: v if isinstance(v, np.ndarray) else np.float32(v) for k, v in (constants or {}).items()}
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info("x", kind, list(shape))],
        [helper.make_tensor_value_info(o, result, None) for o in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def saved(proto: onnx.ModelProto, folder: Path, name: str = "tiny.onnx") -> Path:
    """The model as a file."""
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


def session(path: Path) -> Any:
    """A single-threaded onnxruntime session without its own rewriting."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def samples(graph: Graph, batch: int = 3, spread: float = 3.0) -> dict[str, np.ndarray]:
    """Random inputs of a graph."""
    rng = np.random.default_rng(7)
    shapes = {name: graph.types[name].shape for name in graph.inputs}
    return {k: (spread * rng.standard_normal((batch, *s[1:]))).astype(np.float32) for k, s in shapes.items()}


def relative_error(ours: np.ndarray, reference: np.ndarray) -> float:
    """max|difference| / max|reference|."""
    return float(np.abs(ours - reference).max() / max(np.abs(reference).max(), 1e-30))


def outputs_of(graph: Graph, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What our executor gives."""
    with torch.no_grad():
        env = run_float(graph, feeds)
    return [env[name].numpy() for name in graph.outputs]


def agrees(proto: onnx.ModelProto, folder: Path, batch: int = 3, limit: float = FLOAT_REL_ERROR) -> Graph:
    """Read a model and assert that its outputs are onnxruntime's, shapes included; the graph."""
    path = saved(proto, folder)
    graph = load_onnx(path)
    feeds = samples(graph, batch)
    expected = session(path).run(list(graph.outputs), feeds)
    for ours, reference in zip(outputs_of(graph, feeds), expected, strict=True):
        assert ours.shape == reference.shape
        assert relative_error(ours, reference.astype(np.float32)) <= limit
    return graph
