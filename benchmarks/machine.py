"""Facts about the machine and software that a figure depends on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("numpy", "torch", "onnx", "onnxruntime", "openvino", "nncf", "ai-edge-litert")


def facts() -> dict[str, object]:
    """Processor, instruction sets, cores, compiler-independent versions."""
    return {
        "processor": _processor(),
        "isa": [f for f in ("avx2", "avx512bw", "avx512_vnni") if f in _flags()],
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _processor() -> str:
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _flags() -> set[str]:
    rows = [line.partition(":")[2] for line in _cpuinfo() if line.startswith("flags")]
    return set(rows[0].split()) if rows else set()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
