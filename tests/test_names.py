"""Whatever a file calls its tensors, what is shown and written is inert."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subbyte.names import canonical_json, printable

HOSTILE = {
    "a\x1b[31mred": "a\\x1b[31mred",
    "nul\0": "nul\\x00",
    "line\nend\r": "line\\nend\\r",
    "right\u202eleft": "right\\u202eleft",
    "zero\u200bwidth": "zero\\u200bwidth",
    "lone\ud800": "lone\\ud800",
    "tag\U000e0041": "tag\\U000e0041",
    "</script>": "</script>",
    "größe x": "größe x",
}


@pytest.mark.parametrize(("name", "shown"), HOSTILE.items())
def test_printable(name, shown):
    assert printable(name) == shown


@given(st.text())
def test_printable_text_is_printable_and_left_alone(text):
    once = printable(text)
    assert once.isprintable()
    assert printable(once) == once


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.booleans()))
def test_json_is_ascii_without_markup_and_means_the_same(value):
    text = canonical_json(value)
    assert text.isascii()
    assert not set(text) & set("<>&\n")
    assert json.loads(text) == value


def test_json_has_one_spelling():
    assert canonical_json({"b": 1, "a": [1, None]}) == '{"a":[1,null],"b":1}'
    assert canonical_json({"a": [1, None], "b": 1}) == '{"a":[1,null],"b":1}'


def test_json_refuses_what_is_no_number():
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json([float("nan")])
