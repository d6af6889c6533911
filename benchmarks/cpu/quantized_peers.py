"""Each peer's own int8 network of an ONNX file: ONNX Runtime's static quantization, NNCF's for OpenVINO."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.cpu import workshop
from benchmarks.nets import Floats


def ort_int8(source: Path, calibration: Floats) -> Path:
    """Static quantization to QDQ: int8 weights per channel, uint8 activations, min-max ranges."""
    parts: list[bytes | str] = ["ort int8", version("onnxruntime"), source.read_bytes(), calibration.tobytes()]
    return workshop.made(f"{source.stem}-ort.onnx", parts, lambda to: _ort_int8(source, calibration, to))


def _ort_int8(source: Path, calibration: Floats, target: Path) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = onnx.load(source).graph.input[0].name

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.samples: Iterator[Floats] = iter(calibration[i : i + 1] for i in range(len(calibration)))

        def get_next(self) -> dict[str, Floats] | None:
            sample = next(self.samples, None)
            return None if sample is None else {name: sample}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared = f"{folder}/prepared.onnx"
        quant_pre_process(str(source), prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
        )


def openvino_int8(source: Path, calibration: Floats) -> Path:
    """``nncf.quantize`` with its defaults (per-channel weights, mixed preset where NNCF finds it fit)."""
    parts: list[bytes | str] = [
        "nncf",
        version("nncf"),
        version("openvino"),
        source.read_bytes(),
        calibration.tobytes(),
    ]
    made = workshop.made(f"{source.stem}-openvino.onnx", parts, lambda to: _openvino_int8(source, calibration, to))
    return made.with_name("network.xml")


def _openvino_int8(source: Path, calibration: Floats, target: Path) -> None:
    import nncf
    import openvino as ov

    nncf.set_log_level(logging.ERROR)
    samples: list[Any] = [calibration[i : i + 1] for i in range(len(calibration))]
    with _quiet():
        model = nncf.quantize(ov.Core().read_model(str(source)), nncf.Dataset(samples), subset_size=len(samples))
        ov.save_model(model, str(target.with_name("network.xml")), compress_to_fp16=False)
    target.write_bytes(b"")  # the mark that network.xml and network.bin beside it are whole


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars and advice on the console."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
