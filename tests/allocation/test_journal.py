import json

import pytest

from subbyte.allocation.journal import Journal
from subbyte.errors import SubbyteError

QUESTION = {"network": "abc", "seed": 0}


def test_results_survive(tmp_path):
    path = tmp_path / "search.jsonl"
    first = Journal(path, QUESTION)
    assert first.get("a") is None
    first.record("a", [0.1, 1e-300, 3])
    first.record("b", {"x": None})
    again = Journal(path, QUESTION)
    assert again.resumed == 2
    assert again.get("a") == [0.1, 1e-300, 3]
    again.record("a", 7)
    assert Journal(path, QUESTION).get("a") == 7


@pytest.mark.parametrize("cut", range(1, 18))
def test_a_line_that_was_cut_off_is_dropped(tmp_path, cut):
    path = tmp_path / "search.jsonl"
    journal = Journal(path, QUESTION)
    journal.record("a", 1)
    journal.record("b", 2)
    path.write_bytes(path.read_bytes()[:-cut])
    again = Journal(path, QUESTION)
    assert again.get("a") == 1
    assert again.get("b") is None
    again.record("b", 3)
    assert Journal(path, QUESTION).get("b") == 3


def test_another_search_is_refused(tmp_path):
    path = tmp_path / "search.jsonl"
    Journal(path, QUESTION).record("a", 1)
    with pytest.raises(SubbyteError, match="another search: seed differ"):
        Journal(path, {**QUESTION, "seed": 1})
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("text", ["hello\n", '{"key": "a"}\n', "[1]\n", '{"journal": 1}\n7\n', "\xff\xfe\n"])
def test_other_files_are_refused_and_kept(tmp_path, text):
    path = tmp_path / "search.jsonl"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(SubbyteError):
        Journal(path, {})
    assert path.read_bytes() == text.encode("latin1")


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(SubbyteError, match="cannot be used"):
        Journal(tmp_path / "none" / "search.jsonl", QUESTION)


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    journal = Journal(None, QUESTION)
    journal.record("a", json.loads("1"))
    assert journal.get("a") == 1
    assert list(tmp_path.iterdir()) == []
