"""Every error that a user can cause, in four parts: what was seen, the rule, the remedy, the place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Self


class SubbyteError(Exception):
    """Base of all errors raised on bad input; the command line turns it into exit code 2.

    Args:
        seen: what was found, with the offending value.
        rule: what is required instead.
        remedy: what the user can do about it.
        place: where it happened (file, node, rule number), empty where the call itself is the place.
    """

    def __init__(self, seen: str, rule: str, remedy: str, place: str = "") -> None:
        self.seen = seen
        self.rule = rule
        self.remedy = remedy
        self.place = place
        super().__init__(str(self))

    def at(self, place: str) -> Self:
        """The same error with the place where it happened."""
        return type(self)(self.seen, self.rule, self.remedy, place)

    def __reduce__(self) -> tuple[type[Self], tuple[str, str, str, str]]:
        """Pickled by its parts: errors of worker processes arrive whole."""
        return type(self), (self.seen, self.rule, self.remedy, self.place)

    def __str__(self) -> str:
        parts = [self.seen, f"Rule: {self.rule}", f"Remedy: {self.remedy}"]
        if self.place:
            parts.append(f"Place: {self.place}")
        return "\n".join(parts)


class GraphError(SubbyteError):
    """A graph breaks an invariant, or an operator got operands that it cannot take."""


class IngestError(SubbyteError):
    """A model cannot be read or holds something that has no integer form."""


class DataError(SubbyteError):
    """Calibration or evaluation data is missing, misshapen or not finite."""


class FormatError(SubbyteError):
    """A number format is unknown or used where it is not legal."""


class RecipeError(SubbyteError):
    """A recipe is unknown, malformed, or one of its rules matches nothing."""


class AllocationError(SubbyteError):
    """Budgets that cannot be met, or an allocation problem that is malformed."""


class LoweringError(SubbyteError):
    """A quantized network cannot be written in integers under the normative arithmetic."""


class ModelFileError(SubbyteError):
    """A .subbyte file is damaged, inconsistent or of an unknown version."""


class RunError(SubbyteError):
    """A model was called with an input that it cannot take."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> tuple[str, str, str]:
    """First three parts of an error about an unknown name, with the nearest valid names.

    Returns:
        (seen, rule, remedy) for any SubbyteError.
    """
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    remedy = f"did you mean {', '.join(near)}?" if near else f"use one of {', '.join(choices)}"
    return f"{kind} {name!r} is unknown", f"{len(choices)} names are known here", remedy
