"""Help is there for every verb, and quick because it loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from subbyte.cli import main
from subbyte.cli.app import VERBS

HEAVY = {"torch", "onnx", "onnx_ir", "onnxruntime", "scipy", "numpy", "numpy.testing", "subbyte.pipeline"}


@pytest.mark.parametrize("words", [[], ["--help"], ["quantize", "--help"], ["--version"]], ids=str)
def test_help_loads_nothing_heavy(words):
    program = f"""
import sys
from subbyte.cli import main
assert main({words!r}) == 0
heavy = {HEAVY!r} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={"PYTHONPATH": ":".join(sys.path)}, stdout=subprocess.DEVNULL
    )


def test_help_lists_the_verbs_in_the_order_of_work(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    places = [out.index(f"│ {verb} ") for verb in VERBS]
    assert places == sorted(places)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_every_verb_is_explained(verb, capsys):
    assert main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: subbyte {verb}")
    for line in out.splitlines():
        words = line.strip("│ *").split()
        if words and words[0].startswith("--"):
            assert len(words) > 2, line


def test_module_is_the_command_line():
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "subbyte", "--version"], capture_output=True, check=True, text=True, env=environment
    )
    assert done.stdout.strip().count(".") == 2
