"""The checker must see every breach that it promises to see, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import house_rules


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository root."""
    monkeypatch.setattr(house_rules, "ROOT", tmp_path)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def function(lines: int) -> str:
    """A module whose one function has that many lines and a docstring of three."""
    return '"""A."""\ndef f():\n    """B.\n\n    C."""\n' + "    x = 1\n" * (lines - 1)


@pytest.mark.parametrize(("lines", "count"), [(50, 0), (51, 1)])
def test_function_length(tree: Path, lines: int, count: int) -> None:
    path = write(tree / "a.py", function(lines))
    assert len(list(house_rules.python_breaches(path))) == count


@pytest.mark.parametrize(("lines", "count"), [(400, 0), (401, 1)])
def test_module_length(tree: Path, lines: int, count: int) -> None:
    path = write(tree / "a.py", '"""A."""\n' + "x = 1\n" * (lines - 1))
    assert len(list(house_rules.python_breaches(path))) == count


def test_module_docstring(tree: Path) -> None:
    assert list(house_rules.python_breaches(write(tree / "a.py", "x = 1\n")))
    assert not list(house_rules.python_breaches(write(tree / "b.py", "")))
    assert not list(house_rules.python_breaches(write(tree / "tests" / "test_c.py", "x = 1\n")))


@pytest.mark.parametrize("word", ["TO" + "DO", "FIX" + "ME", "/ho" + "me/someone/a", '"/wo' + 'rk/x"'])
def test_words(tree: Path, word: str) -> None:
    assert len(list(house_rules.text_breaches(write(tree / "a.md", f"fine\n{word}\n")))) == 1


@pytest.mark.parametrize("text", ["a todo list", "src/work/x", "../home/x", "hacking"])
def test_innocent_words(tree: Path, text: str) -> None:
    assert not list(house_rules.text_breaches(write(tree / "a.md", text)))


def test_binary_files_are_left_alone(tree: Path) -> None:
    path = tree / "a.bin"
    path.write_bytes(b"\xff\xfeTO" + b"DO")
    assert not list(house_rules.text_breaches(path))


def test_folders_need_a_readme(tree: Path) -> None:
    module = write(tree / "src" / "subbyte" / "part" / "a.py", '"""A."""\n')
    assert [folder.name for folder, _ in house_rules.folder_breaches([module])] == ["part"]
    readme = write(module.parent / "README.md", "line\n" * house_rules.README_LINES)
    assert not list(house_rules.folder_breaches([module, readme]))
    write(readme, "line\n" * (house_rules.README_LINES + 1))
    assert len(list(house_rules.folder_breaches([module, readme]))) == 1


def test_vague_folder(tree: Path) -> None:
    path = write(tree / "native" / "utils" / "a.h", "")
    assert [what for _, what in house_rules.folder_breaches([path])] == ["a vague name: say what is inside"]


def test_native_length(tree: Path) -> None:
    path = write(tree / "a.cpp", "//\n" * (house_rules.NATIVE_LINES + 1))
    assert len(list(house_rules.text_breaches(path))) == 1
