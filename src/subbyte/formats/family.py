"""A family of formats: one pattern of names, one rule that makes the table."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from subbyte.formats.format import Format


@dataclass(frozen=True, kw_only=True)
class Family:
    """Formats that differ in a number in their name.

    Attributes:
        pattern: regular expression of the names; group 1, where there is one, is the number.
        spelling: the names as a person writes them, e.g. ``levels<N>``, N odd 3..255.
        build: number (0 without a group) to Format; raises FormatError naming the nearest legal numbers.
        listed: names shown in lists; others may exist.
    """

    pattern: str
    spelling: str
    build: Callable[[int], Format]
    listed: tuple[str, ...]

    def find(self, name: str) -> Format | None:
        """The format of a name; None where the name is not of this family."""
        match = re.fullmatch(self.pattern, name)
        if match is None:
            return None
        digits = match[1] if match.lastindex else "0"
        # Names have one spelling: int04 is not int4. Longer numbers than any family knows are unknown names.
        if len(digits) > 5 or (digits.startswith("0") and len(digits) > 1):
            return None
        return self.build(int(digits))

    def claims(self, name: str) -> bool:
        """Whether a name has the shape of this family's names, legal or not."""
        return re.fullmatch(self.pattern, name) is not None
