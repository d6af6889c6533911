"""A model file runs in a process that has never heard of torch or onnx."""

from __future__ import annotations

import subprocess
import sys

from subbyte.runtime.modelfile import save_model
from tests.runtime.small_models import METADATA, branched_model


def test_loading_and_running_imports_nothing_heavy(tmp_path):
    path = tmp_path / "m.subbyte"
    save_model(path, branched_model(), METADATA)
    program = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise AssertionError(f"{name} is imported")

HEAVY = {"torch", "onnx", "onnx_ir", "onnxruntime", "scipy", "rich", "cyclopts", "safetensors"}
sys.meta_path.insert(0, Refused())
import numpy as np
import subbyte as sb
q = sb.load(sys.argv[1])
y = q(np.zeros((2, 8, 6, 3), np.float32))
assert y["soft"].shape == (2, 5)
assert "branched" in q.summary()
q.reference(np.zeros((2, 8, 6, 3), np.uint8))
q.save(sys.argv[1])
assert not HEAVY & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, env={"PYTHONPATH": ":".join(sys.path)})
