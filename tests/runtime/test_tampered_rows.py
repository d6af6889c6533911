"""Files of layers whose rows have scales of their own, changed on purpose."""

from __future__ import annotations

import pytest

from subbyte.runtime.modelfile import breakdown, from_bytes, to_bytes
from tests.runtime.small_models import METADATA, rows_model
from tests.runtime.tampering import join, split
from tests.runtime.test_tampered_files import REFUSALS, change


@pytest.mark.parametrize("largest", [0, 256, -1, 255.0, True, None, "255", [255], 2**70])
def test_false_largest_codes_of_rows(largest):
    data = to_bytes(rows_model(), METADATA)
    with pytest.raises(REFUSALS):
        from_bytes(change(data, "graph nodes 0 attributes largest", largest))


@pytest.mark.parametrize("missing", ["largest", "pre_shift"])
def test_rows_need_a_largest_code_and_their_shift(missing):
    """A shift left out is none, with which the file's scales would not tell its multipliers."""
    content, rest = split(to_bytes(rows_model(), METADATA))
    del content["graph"]["nodes"][0]["attributes"][missing]
    with pytest.raises(REFUSALS):
        from_bytes(join(content, rest))


def test_scales_tell_the_multipliers_of_rows():
    roles = {part.role: part.format for part in breakdown(rows_model())}
    assert roles["m"] == roles["n"] == "ratio"
