"""A new format is one object: six levels, registered here and known nowhere else, go the whole road."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import subbyte as sb
from subbyte.arithmetic import boundary
from subbyte.cli import main
from subbyte.formats import Format, format_names, get_format, register_format, unregister_format
from tests.e2e.executors import check_agreement
from tests.e2e.format_nets import LAYERS, float_net, samples

ROOT = Path(__file__).resolve().parents[2]

STRANGER = """
import sys
import numpy as np
import subbyte as sb
from subbyte.formats import format_names

path, x, folder = sys.argv[1:]
assert "six" not in format_names()
q = sb.load(path)
x = np.load(x)
np.save(f"{folder}/native.npy", q(x))
np.savez(f"{folder}/reference.npz", **q.reference(q.encode(x), keep=True))
q.save(f"{folder}/again.subbyte")
weight = q.graph.constants["fc.weight"].format
print(weight.name, *weight.table, "six" in format_names(), "torch" in sys.modules)
"""
"""What a process does that has only the file."""


@pytest.fixture
def six():
    yield register_format(Format(name="six", table=(-2, -1, 0, 1, 2, 4)))
    unregister_format("six")


def test_six_levels_are_added_as_one_object(six, tmp_path):
    graph = float_net("weight", six)
    x = samples(graph)
    q = sb.quantize(graph, x, recipe="wsix_asix_first_last_same", samples=len(x))
    layers = {n.name: n for n in q.graph if n.name in LAYERS}
    weights = [q.graph.constants[node.inputs[1]] for node in layers.values()]
    assert all(w.format is six for w in weights)
    assert all(set(np.unique(w.integers())) == set(six.table) for w in weights)
    # The first and the last layer's operands stay at 8 bits unless a recipe says otherwise.
    operands = [q.graph.types[node.inputs[0]].format.name for node in layers.values()]
    assert operands == ["uint8", "six", "six", "uint8"]

    packed = weights[-1].pack()
    assert len(packed) == six.packed_size(324) == 324 // 3  # three codes of six levels in a byte
    np.testing.assert_array_equal(six.unpack(packed, 324).reshape(3, 108), weights[-1].codes)

    expected = check_agreement(q.graph, q.encode(x))
    q.save(tmp_path / "six.subbyte")
    native = q(x)
    unregister_format("six")
    _run_elsewhere(tmp_path, x)
    np.testing.assert_array_equal(np.load(tmp_path / "native.npy"), native)
    with np.load(tmp_path / "reference.npz") as stranger:
        assert set(stranger) == set(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(stranger[name], value)
    assert (tmp_path / "again.subbyte").read_bytes() == (tmp_path / "six.subbyte").read_bytes()


def _run_elsewhere(folder, x) -> None:
    np.save(folder / "x.npy", x)
    words = [sys.executable, "-c", STRANGER, folder / "six.subbyte", folder / "x.npy", folder]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "six -2 -1 0 1 2 4 False False\n"


def examples_of(document: str) -> list[str]:
    """The blocks of code in a document, fenced or indented, that register a format out of nothing."""
    text = (ROOT / document).read_text(encoding="utf8")
    fenced = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    indented = re.findall(r"(?:^    \S.*\n|^    {2,}.*\n)+", text, re.MULTILINE)
    blocks = [textwrap.dedent(block) for block in (*fenced, *indented)]
    return [b for b in blocks if "register_format(Format(" in b]


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "src/subbyte/formats/README.md", "docs/formats.md"])
def test_what_documents_tell_contributors_to_write_is_all_it_takes(document):
    """The block as it is printed there, run as a file, then the recipe that the text promises."""
    (block,) = examples_of(document)
    assert "six" not in format_names()
    try:
        exec(compile(block, document, "exec"), {})
        own = get_format("six")
        graph = float_net("weight", own)
        x = samples(graph)
        q = sb.quantize(graph, x, recipe="wsix_a8_first_last_same", samples=len(x))
        weights = [q.graph.constants[n.inputs[1]] for n in q.graph if n.name in LAYERS]
        assert {w.format.name for w in weights} == {"six"}
        for w in weights:
            np.testing.assert_array_equal(own.unpack(w.pack(), w.codes.size).reshape(w.shape), w.codes)
        expected = check_agreement(q.graph, q.encode(x))
        kind = q.graph.types["fc"]
        np.testing.assert_array_equal(q(x), boundary.dequantize(expected["fc"], kind.scale, kind.zero_point))
    finally:
        unregister_format("six")


def test_it_is_listed(six, capsys):
    assert main(["formats", "--json"]) == 0
    listed = {card["name"]: card for card in json.loads(capsys.readouterr().out)["formats"]}
    assert (listed["six"]["levels"], listed["six"]["weights"], listed["six"]["activations"]) == (6, "yes", "yes")
    assert main(["formats"]) == 0
    assert "-2, -1, 0, 1, 2, 4" in capsys.readouterr().out
    assert main(["formats", "six"]) == 0
    assert "2.585 bits of information" in capsys.readouterr().out
    assert main(["formats", "sixx"]) == 2
    assert "six" in capsys.readouterr().err


def test_it_is_forgotten(six):
    assert get_format("six") is six
    unregister_format("six")
    assert "six" not in format_names()
    with pytest.raises(sb.SubbyteError, match="unknown"):
        get_format("six")
