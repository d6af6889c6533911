"""Documents point at things that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import subbyte

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("docs", "src", "native", "examples", "benchmarks", "tests", "tools")
DOCUMENTS = sorted({*ROOT.glob("*.md"), *(d for folder in FOLDERS for d in (ROOT / folder).rglob("*.md"))})
NAMED = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/arithmetic.md")]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf8"))
    local = [t for t in targets if "://" not in t]
    assert [t for t in local if not (document.parent / t).exists()] == []


@pytest.mark.parametrize("document", NAMED, ids=name)
def test_paths_in_backticks_exist(document: Path) -> None:
    """`src/...` is written from the root, `formats/levels.py` from the package's folder, a bare name from anywhere."""
    text = document.read_text(encoding="utf8")
    paths = re.findall(r"`([\w./]+(?:\.py|\.h|\.cpp|\.toml|/))`", text)
    bases = (ROOT, ROOT / "src" / "subbyte", document.parent)
    known = {f.name for folder in FOLDERS for f in (ROOT / folder).rglob("*")}
    assert [p for p in paths if p not in known and not any((base / p).exists() for base in bases)] == []


def test_the_readme_calls_what_is_public() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)]
    used = {node.attr for node in calls if isinstance(node.value, ast.Name) and node.value.id == "sb"}
    assert used <= set(subbyte.__all__)
    methods = {node.attr for node in calls if isinstance(node.value, ast.Name) and node.value.id == "q"}
    assert methods
    assert all(hasattr(subbyte.QuantizedModel, method) for method in methods)


def test_the_readme_shows_the_demo_table() -> None:
    from subbyte.demo.run import RECIPES

    readme = (ROOT / "README.md").read_text(encoding="utf8")
    assert all(re.search(rf"^\| {recipe} \|.*\| yes \|$", readme, re.MULTILINE) for recipe in RECIPES)
