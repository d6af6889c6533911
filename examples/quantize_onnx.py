"""An ONNX file becomes an integer-only model, is saved, loaded and run.

python examples/quantize_onnx.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import subbyte as sb
from subbyte.demo.run import FLOAT_FILE, images, labels


def main() -> None:
    model = sb.load_model(FLOAT_FILE)
    q = sb.quantize(model, images("mnist16_calibration.npz"), recipe="w4a8")
    print(q.summary())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mnist16.subbyte"
        q.save(path)
        print(f"{FLOAT_FILE.stat().st_size:,} bytes of float became {path.stat().st_size:,}")
        again = sb.load(path)  # needs NumPy and the native engine only
    logits = again(images("mnist16_test.npz"))
    print(f"top-1: {100 * np.mean(logits.argmax(axis=1) == labels()):.1f} %")


if __name__ == "__main__":
    main()
