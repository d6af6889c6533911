"""The file of winners: found where it belongs, used where it holds, ignored with a warning where it is damaged."""

from __future__ import annotations

import json
import warnings

import pytest

from subbyte.errors import RunError, SubbyteError
from subbyte.runtime import tuned
from subbyte.runtime.engine import Engine
from tests.kernels.test_movement import network

WINNERS = {"some layer": {"block": "48"}}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("SUBBYTE_TUNE", "on")
    return tmp_path


def isa() -> str:
    return Engine(network(0), choices={}).isa


def test_what_is_remembered_is_read_again(cache) -> None:
    assert tuned.winners("avx2") == {}
    path = tuned.remember("avx2", WINNERS)
    assert path.parent == cache / "subbyte"
    assert tuned.winners("avx2") == WINNERS
    assert tuned.winners("portable") == {}
    tuned.remember("avx2", {"some layer": {}, "other": {"fold": "2"}})
    tuned.remember("portable", WINNERS)
    assert tuned.winners("avx2") == {"some layer": {}, "other": {"fold": "2"}}
    assert tuned.winners("portable") == WINNERS
    path.unlink()
    assert tuned.winners("avx2") == {}


@pytest.mark.parametrize("fact", ["cpu", "isas", "engine"])
def test_a_file_of_another_machine_is_ignored_without_a_word(fact: str) -> None:
    path = tuned.remember("avx2", WINNERS)
    content = json.loads(path.read_text())
    content["machine"][fact] = "another"
    path.write_text(json.dumps(content))
    assert tuned.winners("avx2") == {}
    tuned.remember("avx2", {"new": {"fold": "2"}})
    assert tuned.winners("avx2") == {"new": {"fold": "2"}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{",
        b'{"version": 1}',
        b'{"version": 2, "layers": {}}',
        b'{"version": 1, "layers": {"avx2": []}}',
        b'{"version": 1, "layers": {"avx2": {"key": {"block": 48}}}}',
        b"[" * 100_000,
    ],
    ids=repr,
)
def test_a_damaged_file_is_ignored_with_a_warning(content: bytes) -> None:
    path = tuned.remember("avx2", WINNERS)
    path.write_bytes(content)
    with pytest.warns(tuned.TuningWarning, match="delete it"):
        assert tuned.winners("avx2") == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        assert tuned.winners("avx2") == {}
    tuned.remember("avx2", WINNERS)
    assert tuned.winners("avx2") == WINNERS


def test_a_huge_file_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    tuned.remember("avx2", WINNERS)
    monkeypatch.setattr(tuned, "MOST_BYTES", 10)
    monkeypatch.setattr(tuned, "_LAST", {})
    with pytest.warns(tuned.TuningWarning, match="bytes"):
        assert tuned.winners("avx2") == {}


def test_engines_survive_choices_that_are_not_possible() -> None:
    graph = network(1)
    bad = {tuned.layer_key(graph, node): {"block": "nonsense"} for node in graph}
    tuned.remember(isa(), bad)
    with pytest.warns(tuned.TuningWarning, match="cannot be used"):
        engine = Engine(graph)
    assert engine.knobs == Engine(graph, choices={}).knobs


def test_what_the_caller_says_about_weights_counts_more() -> None:
    graph = network(1)
    for weights in ("packed", "unpacked"):
        tuned.remember(isa(), {tuned.layer_key(graph, node): {"weights": weights} for node in graph})
        for wanted in ("packed", "unpacked"):
            usual = Engine(graph, weights=wanted, choices={})
            assert Engine(graph, weights=wanted).weight_bytes == usual.weight_bytes


def test_off_means_off(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network(1)
    tuned.remember(isa(), {tuned.layer_key(graph, node): {"nonsense": "1"} for node in graph})
    monkeypatch.setenv("SUBBYTE_TUNE", "off")
    assert tuned.choices(graph, isa()) == {}
    Engine(graph)
    monkeypatch.setenv("SUBBYTE_TUNE", "of")
    with pytest.raises(RunError, match="'of'"):
        Engine(graph)


def test_keys_tell_layers_apart_by_what_costs_time() -> None:
    graph = network(1)
    keys = {node.name: tuned.layer_key(graph, node) for node in graph}
    layers = [n for n in graph if any(i in graph.constants for i in n.inputs)]
    assert len({keys[n.name] for n in layers}) > 1
    renamed = graph.evolve(name="other")
    assert keys == {node.name: tuned.layer_key(renamed, node) for node in renamed}


def test_the_folder_follows_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path in tuned.folder().parents
    assert tuned.folder().name in {"subbyte", "Cache"}


def test_a_folder_that_cannot_be_made_is_an_error_in_four_parts(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert tuned.choices(network(0), "avx2") == {}
    with pytest.raises(SubbyteError, match="Remedy: set XDG_CACHE_HOME"):
        tuned.remember("avx2", WINNERS)
