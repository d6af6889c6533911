"""What a search has found out, line by line on disk, so that an interrupted one goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subbyte.errors import SubbyteError

VERSION = 1


class Journal:
    """Results by key; with a path, every one is on disk before ``record`` returns.

    The first line says what the search was asked. A journal of another search is refused; a last line that was cut off
    by a crash is dropped. Floats are written so that they are read back exactly.

    Args:
        path: JSON lines, created if missing; None keeps everything in memory.
        question: what decides the results: network, samples, seed, candidates.

    Raises:
        SubbyteError: the file is no journal, or one of another search.
    """

    def __init__(self, path: str | Path | None, question: Mapping[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.entries: dict[str, Any] = {}
        self.resumed = 0
        head = {"journal": VERSION, **question}
        if self.path is None:
            return
        lines = self._lines()
        if not lines:
            self._append(head)
        elif lines[0] != json.loads(json.dumps(head)):
            raise self._other(lines[0], head)
        for line in lines[1:]:
            self.entries[str(line["key"])] = line["value"]
        self.resumed = len(self.entries)

    def get(self, key: str) -> Any:
        """A result, or None."""
        return self.entries.get(key)

    def record(self, key: str, value: Any) -> None:
        """Keep a result (JSON values)."""
        self.entries[key] = value
        if self.path is not None:
            self._append({"key": key, "value": value})

    def _lines(self) -> list[dict[str, Any]]:
        assert self.path is not None
        try:
            raw = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise self._broken(str(error)) from error
        whole, newline, rest = raw.rpartition(b"\n")
        if rest:  # the process died while it wrote this line
            os.truncate(self.path, len(whole) + len(newline))
        try:
            lines = [json.loads(line) for line in whole.split(b"\n")] if whole else []
            good = all(isinstance(x, dict) and ("key" in x or i == 0) for i, x in enumerate(lines))
        except ValueError as error:
            raise self._broken(str(error)) from error
        if not good or (lines and lines[0].get("journal") != VERSION):
            raise self._broken(f"it does not begin with {{'journal': {VERSION}}}")
        return lines

    def _append(self, value: Mapping[str, Any]) -> None:
        assert self.path is not None
        try:
            with self.path.open("ab") as file:
                file.write(json.dumps(value).encode("ascii") + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._broken(str(error)) from error

    def _broken(self, why: str) -> SubbyteError:
        return SubbyteError(
            f"the journal cannot be used: {why}",
            "a journal is what an earlier search wrote, one JSON object per line",
            "give another path, or delete the file to begin anew",
            f"file {str(self.path)!r}",
        )

    def _other(self, found: Mapping[str, Any], head: Mapping[str, Any]) -> SubbyteError:
        differ = [k for k in head if found.get(k) != json.loads(json.dumps(head[k]))]
        return SubbyteError(
            f"the journal belongs to another search: {', '.join(differ) or 'more was asked there'} differ",
            "a search resumes with the network, samples, seed and candidates that it began with",
            "give another path, or delete the file to begin anew",
            f"file {str(self.path)!r}",
        )
