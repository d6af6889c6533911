"""One set of hostile names through every sink: file, terminal, JSON, errors, drawings."""

from __future__ import annotations

import json
import unicodedata

import pytest

from subbyte.cli import main
from subbyte.errors import ModelFileError
from subbyte.graph.draw import draw
from subbyte.graph.ir import Graph, Node
from subbyte.runtime.modelfile import from_bytes, load_model_file, save_model, to_bytes
from tests.runtime.small_models import branched_model
from tests.runtime.tampering import header

HOSTILE = (
    "</script><script>alert(1)</script>",
    "\x1b[2J\x1b]0;title\x07",
    "nul\0inside",
    "gpj.\u202egnp",
    "line\r\nend",
    "[bold red]rich[/]",
    "zero\u200bwidth\ufeff",
    "__metadata__",
    "sha256",
    "array/",
    "../../etc/passwd",
    "%s%n{0}${HOME}`id`",
)


@pytest.fixture
def graph() -> Graph:
    """The branched model with a hostile name for every value, constant, node and module."""
    honest = branched_model()
    names = [*honest.types, *honest.constants]
    evil = {name: f"{HOSTILE[i % len(HOSTILE)]}{i // len(HOSTILE) or ''}" for i, name in enumerate(names)}
    nodes = tuple(
        Node(
            name=evil[node.output],
            op=node.op,
            inputs=tuple(evil[i] for i in node.inputs),
            output=evil[node.output],
            module=HOSTILE[i % len(HOSTILE)],
        )
        for i, node in enumerate(honest)
    )
    return Graph(
        name=HOSTILE[1],
        inputs=tuple(evil[n] for n in honest.inputs),
        outputs=tuple(evil[n] for n in honest.outputs),
        types={evil[n]: kind for n, kind in honest.types.items()},
        constants={evil[n]: c for n, c in honest.constants.items()},
        nodes=nodes,
    )


def assert_inert(text: str) -> None:
    """Nothing but printable characters and line ends."""
    bad = {c for c in text if c != "\n" and unicodedata.category(c)[0] == "C"}
    assert not bad, bad


def test_file(graph):
    data = to_bytes(graph, {"note": HOSTILE[0] + HOSTILE[1], HOSTILE[3]: 1})
    text = header(data)
    assert text.isascii()
    assert_inert(text)
    assert "<" not in text
    loaded, metadata = from_bytes(data)
    assert len(loaded.nodes) == len(graph.nodes)
    assert set(HOSTILE) & set(loaded.types) == {n for n in graph.types if n.isprintable() and n in HOSTILE}
    for name in [*loaded.types, *loaded.constants, *(n.module for n in loaded), loaded.name, *metadata]:
        assert_inert(name)
    assert to_bytes(loaded, metadata) == data


def test_names_that_collide_when_shown_are_refused(graph):
    honest = branched_model()
    spare = dict.fromkeys(("a\x1b", "a\\x1b"), honest.constants["stem.m"])
    with pytest.raises(ModelFileError, match="unprintable"):
        to_bytes(honest.evolve(constants={**honest.constants, **spare}), {})


def test_endless_names_are_refused():
    honest = branched_model()
    constants = {**honest.constants, "x" * 5000: honest.constants["stem.m"]}
    with pytest.raises(ModelFileError, match="5000"):
        to_bytes(honest.evolve(constants=constants), {})


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_terminal_and_json(graph, arguments, tmp_path, capsys):
    path = tmp_path / "m.subbyte"
    save_model(path, graph, {"recipe": HOSTILE[0] + HOSTILE[5]})
    assert main(["inspect", str(path), *arguments]) == 0
    out = capsys.readouterr().out
    assert_inert(out)
    if arguments:
        assert out.isascii()
        assert "<" not in out
        assert json.loads(out)["metadata"]["recipe"] == HOSTILE[0] + HOSTILE[5]
    else:
        assert "[bold red]rich[/]" in out.replace("\n", "")


@pytest.mark.parametrize("arguments", [(), ("--json",)])
@pytest.mark.parametrize("name", [n for n in HOSTILE if "\0" not in n])
def test_errors(name, arguments, tmp_path, capsys):
    assert main(["inspect", str(tmp_path / name) + ".subbyte", *arguments]) == 2
    assert main(["formats", name, *arguments]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert_inert(captured.err)
    if arguments:
        assert "<" not in captured.err


def test_drawing(graph):
    assert_inert(draw(graph))


def test_place_of_errors_is_inert(tmp_path):
    path = tmp_path / "a\x1b[31m.subbyte"
    path.write_bytes(b"x")
    with pytest.raises(ModelFileError) as caught:
        load_model_file(path)
    assert_inert(str(caught.value))
