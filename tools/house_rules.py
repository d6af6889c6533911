"""Check the rules of the house that no other tool knows; exit code 1 with one line per breach.

1. A Python module has a docstring (tests may do without) and at most 400 lines; a function has at most 50, its
   docstring not counted; a native file at most 600.
2. Every folder of src/subbyte has a README.md of at most a screen (50 lines).
3. No folder is named utils, common, misc, helpers or core: names say what is inside.
4. Nothing unfinished and no path of somebody's machine stands in a tracked text.

Run from anywhere: ``python tools/house_rules.py``.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE_LINES = 400
FUNCTION_LINES = 50
NATIVE_LINES = 600
README_LINES = 50
NATIVE_SUFFIXES = {".c", ".cc", ".cpp", ".h", ".hpp"}
VAGUE_FOLDERS = {"utils", "common", "misc", "helpers", "core"}
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(ho" + r"me|Use" + r"rs|ro" + r"ot|wo" + r"rk|tmp/v)/")
LICENCE = "LICENSE"


def tracked() -> list[Path]:
    """Files of the repository that exist, new ones included, ignored ones not."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.decode()
    files = [ROOT / name for name in listed.split("\0") if name]
    return sorted({f for f in files if f.is_file()})


def python_breaches(path: Path) -> Iterator[str]:
    """Rule 1 for one Python module."""
    text = path.read_text(encoding="utf8")
    lines = text.count("\n")
    if lines > MODULE_LINES:
        yield f"{lines} lines, at most {MODULE_LINES}: split it by what it owns"
    tree = ast.parse(text)
    is_test = path.relative_to(ROOT).parts[0] == "tests"
    if text.strip() and not is_test and ast.get_docstring(tree) is None:
        yield "no module docstring: say in one line what it is"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = function_lines(node)
            if length > FUNCTION_LINES:
                yield f"{node.name}() at line {node.lineno} has {length} lines, at most {FUNCTION_LINES}"


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function from ``def`` to its end, without those of its docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
    return lines


def text_breaches(path: Path) -> Iterator[str]:
    """Rule 4, and the length of native files, for one text file."""
    try:
        lines = path.read_text(encoding="utf8").splitlines()
    except UnicodeDecodeError:
        return
    if path.suffix in NATIVE_SUFFIXES and len(lines) > NATIVE_LINES:
        yield f"{len(lines)} lines, at most {NATIVE_LINES}: split it by what it owns"
    for number, line in enumerate(lines, 1):
        if found := UNFINISHED.search(line) or MACHINE_PATH.search(line):
            yield f"line {number} holds {found.group()!r}: finish it, or write a path relative to the repository"


def folder_breaches(files: list[Path]) -> Iterator[tuple[Path, str]]:
    """Rules 2 and 3."""
    folders = {f.parent for f in files if f.suffix == ".py" and f.is_relative_to(ROOT / "src" / "subbyte")}
    for folder in sorted(folders - {ROOT / "src" / "subbyte"}):
        readme = folder / "README.md"
        if not readme.is_file():
            yield folder, "no README.md: what comes in, what goes out, which file to open first"
        elif (lines := readme.read_text(encoding="utf8").count("\n")) > README_LINES:
            yield readme, f"{lines} lines, at most a screen of {README_LINES}"
    for folder in sorted({parent for f in files for parent in f.relative_to(ROOT).parents}):
        if folder.name in VAGUE_FOLDERS:
            yield ROOT / folder, "a vague name: say what is inside"


def breaches() -> Iterator[tuple[Path, str]]:
    """Every breach of every rule, as (file, what is wrong)."""
    files = tracked()
    yield from folder_breaches(files)
    for path in files:
        if path.suffix == ".py":
            yield from ((path, what) for what in python_breaches(path))
        if path.name != LICENCE:
            yield from ((path, what) for what in text_breaches(path))


def main() -> int:
    """Print the breaches; 1 if there are any."""
    found = [f"{path.relative_to(ROOT)}: {what}\n" for path, what in breaches()]
    sys.stdout.writelines(found)
    sys.stdout.write(f"house rules: {len(found)} breaches\n" if found else "house rules: kept\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
