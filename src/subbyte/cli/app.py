"""Parses the command line, runs one verb and turns every bad input into a four-part message and exit code 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from subbyte.cli.bench import bench
from subbyte.cli.compare import compare
from subbyte.cli.demo import demo
from subbyte.cli.evaluate import evaluate
from subbyte.cli.formats import formats
from subbyte.cli.inspect import inspect
from subbyte.cli.options import Preprocessing
from subbyte.cli.output import escape_what_cannot_be_shown, report_error
from subbyte.cli.quantize import quantize
from subbyte.cli.run import run
from subbyte.cli.search import Allocating, search
from subbyte.errors import SubbyteError

if TYPE_CHECKING:
    from cyclopts import App

VERBS: dict[str, Callable[..., int]] = {
    "inspect": inspect,
    "quantize": quantize,
    "search": search,
    "compare": compare,
    "eval": evaluate,
    "run": run,
    "bench": bench,
    "formats": formats,
    "demo": demo,
}
BAD_INPUT = 2
INTERRUPTED = 130

_HELP = """Trained float networks in, integer-only networks out, from 8 bits down to 1.

A model comes as ONNX, becomes integers with 'quantize', and is judged with 'compare' and 'eval'.
"""


def build() -> App:
    """The application with all verbs."""
    from cyclopts import App, Parameter

    import subbyte

    app = App(
        name="subbyte",
        help=_HELP,
        help_format="plaintext",
        version=subbyte.__version__,
        default_parameter=Parameter(negative=()),
        exit_on_error=False,
        print_error=False,
        help_on_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for options in (Preprocessing, Allocating):
        Parameter(name="*")(options)  # their fields become options of the verb itself
    for order, (name, verb) in enumerate(VERBS.items()):
        app.command(verb, name=name, sort_key=order)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; those of the process if left out.

    Returns:
        Exit code: 0, 1 where a check failed, 2 for bad input, 130 if interrupted.
    """
    from cyclopts import CycloptsError

    escape_what_cannot_be_shown()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = build()(words)
        sys.stdout.flush()
    except SubbyteError as error:
        report_error(error if error.place else error.at(_call(words)), as_json="--json" in words)
    except CycloptsError as error:
        report_error(_usage(error, words), as_json="--json" in words)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    else:
        return result if isinstance(result, int) else 0
    return BAD_INPUT


def _call(words: Sequence[str]) -> str:
    """The program and the verb in use."""
    return " ".join(["subbyte", *[w for w in words if w in VERBS][:1]])


def _usage(error: Exception, words: Sequence[str]) -> SubbyteError:
    verb = next((w for w in words if w in VERBS), "")
    help_text = f"{_call(words)} --help"
    rule = f"'{verb}' takes the arguments and options of its help" if verb else f"verbs are {', '.join(VERBS)}"
    return SubbyteError(" ".join(str(error).split()), rule, f"see {help_text}", "command line")
