"""Runners of the peers: ONNX Runtime, OpenVINO and LiteRT on a number of threads, inputs bound before the call.

Each is driven the way its users would for least latency: I/O binding, latency hint, XNNPACK. What is timed is the call
that computes; filling the input beforehand is free for them, while ours takes its array with every call.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.cpu.rounds import Output, Runner

if TYPE_CHECKING:
    import openvino

Array = npt.NDArray[Any]


def ort(name: str, kind: str, model: Path | bytes, x: Array, threads: int = 1, *, counts: bool = True) -> Runner:
    """ONNX Runtime's CPU provider with I/O binding."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input(session.get_inputs()[0].name, x)
    binding.bind_output(session.get_outputs()[0].name)

    def call() -> None:
        session.run_with_iobinding(binding)

    def output() -> Output:
        call()
        return np.asarray(binding.copy_outputs_to_cpu()[0])

    return Runner(name=name, kind=kind, call=call, output=output, counts=counts)


def openvino_runner(
    name: str, kind: str, model: Path | openvino.Model, x: Array, threads: int = 1, *, counts: bool = True
) -> Runner:
    """OpenVINO's CPU plugin with the latency hint; float32 networks stay in float32."""
    import openvino as ov

    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = ov.Core()
    read = core.read_model(str(model)) if isinstance(model, Path) else model
    compiled = core.compile_model(read, "CPU", settings)
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(x))

    def output() -> Output:
        request.infer()
        return np.array(request.get_output_tensor().data)

    return Runner(name=name, kind=kind, call=request.infer, output=output, counts=counts)


def litert(name: str, kind: str, model: bytes, x: Array, threads: int = 1, *, counts: bool = True) -> Runner:
    """LiteRT with XNNPACK. An int8 network takes and gives codes; ``output`` returns reals."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=threads)
    interpreter.allocate_tensors()
    into, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = into["quantization"]
    codes = np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8) if scale and x.dtype == np.float32 else x
    interpreter.set_tensor(into["index"], codes.reshape(into["shape"]))

    def output() -> Output:
        interpreter.invoke()
        y = np.array(interpreter.get_tensor(out["index"]))
        scale, zero = out["quantization"]
        return np.float32(scale) * (y.astype(np.float32) - zero) if scale else y

    return Runner(name=name, kind=kind, call=interpreter.invoke, output=output, counts=counts)
