"""Everything the command line shows: results on standard output, progress and errors on standard error.

Names and texts come from users' files and are hostile: each is made printable and shown without markup.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from subbyte.errors import SubbyteError
from subbyte.names import inert, printable

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[str, int, int], None]
_WIDE = 160


def console(*, stderr: bool = False) -> Console:
    """A console; wide where nobody's terminal decides."""
    from rich.console import Console

    class Screen(Console):
        def on_broken_pipe(self) -> None:  # rich would end the process with code 1; main decides
            raise BrokenPipeError

    made = Screen(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = _WIDE
    return made


def show_json(value: Any) -> None:
    """Print a value as JSON: ASCII only, infinities and NaN as null."""
    import json

    sys.stdout.write(inert(json.dumps(_finite(value), indent=2, ensure_ascii=True, allow_nan=False)) + "\n")


def show_lines(text: str) -> None:
    """Print lines of text, each made printable."""
    sys.stdout.write("".join(printable(line) + "\n" for line in text.split("\n")))


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; columns whose cells are all numbers are right-aligned."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for index, column in enumerate(columns):
        numbers = all(isinstance(row[index], int | float) or row[index] == "" for row in rows)
        table.add_column(Text(printable(column)), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(_cell(value))) for value in row))
    show_lines(title)  # a line of its own: as part of the table it would be folded to the table's width
    sys.stdout.flush()
    console().print(table)


def report_error(error: SubbyteError, *, as_json: bool) -> None:
    """Write the four parts of an error to standard error."""
    parts = {"error": error.seen, "rule": error.rule, "remedy": error.remedy, "place": error.place}
    if as_json:
        import json

        sys.stderr.write(inert(json.dumps(parts, ensure_ascii=True)) + "\n")
        return
    for name, text in parts.items():
        if text:
            lines = [printable(line) for line in text.split("\n")]
            sys.stderr.write(f"{name.capitalize()}: " + "\n  ".join(lines) + "\n")


@contextmanager
def progress(*, quiet: bool) -> Iterator[Progress]:
    """A function (stage, done, total) that draws bars on standard error, if that is a terminal and not ``quiet``.

    A total of 0 means that nobody knows it.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    screen = console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=screen, transient=True, disable=quiet or not screen.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            known = total or None  # an endless bar where nobody knows how long the stream is
            if stage not in tasks:
                tasks[stage] = bars.add_task(printable(stage), total=known)
            bars.update(tasks[stage], completed=done, total=known)

        yield report


def shape_text(shape: Sequence[int | str]) -> str:
    """A shape without quotes: ``[N, 3, 8, 8]``."""
    return f"[{', '.join(map(str, shape))}]"


def value_text(value: Any) -> str:
    """A JSON value on one line, plain text without quotes."""
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def escape_what_cannot_be_shown() -> None:
    """Make standard output and error write characters that their encoding lacks as escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
