"""How an operator computes: knobs that the native engine offers, and choices of their ways.

Every way gives the same integers; which one is fastest depends on the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

Choice: TypeAlias = Mapping[str, str]
"""Of one operator: a way by knob. Knobs that are not named are left to the engine."""


class Knob(NamedTuple):
    """Something that an operator can do in several ways.

    Attributes:
        name: of the knob.
        ways: that are possible for this operator; those of a later knob may depend on what was chosen for earlier ones.
        chosen: the way taken.
    """

    name: str
    ways: tuple[str, ...]
    chosen: str
