"""Cards and the list of refusals: complete, and true of what the code does."""

from __future__ import annotations

import json

import numpy as np
import pytest

from subbyte.errors import FormatError
from subbyte.formats import Format, formats, get_format, quantize_weight, register_format
from subbyte.formats.cards import card, cards, markdown_table
from subbyte.formats.refusals import REFUSALS, ROLES, refusal, refused, require_legal
from subbyte.formats.registry import unregister_format


def test_every_listed_format_has_a_full_card() -> None:
    assert len(cards()) == len(formats())
    for c in cards():
        assert c.title
        assert c.source
        assert c.stored_bits >= c.bits
        assert json.loads(json.dumps(c.to_dict()))["name"] == c.name
        assert c.name in c.to_text()
        assert f"### {c.name}" in c.to_markdown()
        assert f"| {c.name} |" in markdown_table()


def test_stored_bits_are_those_of_a_long_tensor() -> None:
    for f in formats():
        count = 8 * 27 * 35 * 11
        assert abs(8 * f.packed_size(count) / count - card(f).stored_bits) < 0.001


def test_examples() -> None:
    assert card("levels17").table == "-8 .. 8"
    assert card("binary").table == "-1, 1"
    assert card("midrise5").table.count("...") == 1
    assert card("uint4").weights.startswith("only with zero points")
    assert card("binary").storage.startswith("no: ")
    assert card("int16").weights.startswith("no: ")
    assert card("int16").granularity == ()
    with pytest.raises(FormatError, match="levels17"):
        card("level17")


def test_six_levels_are_one_object() -> None:
    six = register_format(Format(name="six", table=(-2, -1, 0, 1, 2, 4)))
    try:
        assert card("six").to_dict()["weights"] == "yes"
        assert "| six | -2, -1, 0, 1, 2, 4 |" in markdown_table()
        w = np.random.default_rng(0).normal(size=(7, 30)).astype(np.float32)
        q = quantize_weight(w, get_format("six"), method="mse")
        assert set(np.unique(q.integers())) == set(six.table)
        data = q.pack()
        assert len(data) == 70  # three codes in a byte
        assert np.array_equal(six.unpack(data, 210), q.codes.reshape(-1))
    finally:
        unregister_format("six")


def test_refusals_are_what_quantization_does() -> None:
    w = np.array([[-1.0, 0.25, 1.0]], dtype=np.float32)
    odd = [
        Format(name="too_wide", table=(-200, 0, 200)),
        Format(name="positive", table=(1, 2, 4)),
        Format(name="six_levels", table=(-2, -1, 0, 1, 2, 4)),
        Format(name="far", table=range(40_000, 40_010)),
    ]
    for f in (*formats(), *odd):
        for role, symmetric in (("weight", True), ("affine_weight", False)):
            if reason := refusal(f, role):
                with pytest.raises(FormatError) as caught:
                    quantize_weight(w, f, symmetric=symmetric)
                assert caught.value.rule == reason
            else:
                quantize_weight(w, f, symmetric=symmetric)


def test_formats_beyond_24_bits_have_no_role() -> None:
    for f in (get_format("fp8_e5m2"), Format(name="far", table=range(2**24, 2**24 + 10))):
        assert all("24 bits" in (refusal(f, role) or "") for role in ROLES)
        assert card(f).runs == card(f).granularity == ()
    assert "nothing" in card("fp8_e5m2").to_text()
    assert card("fp4_e2m1").runs


def test_every_format_of_bytes_multiplies() -> None:
    """As weights and as activations: all but fp8_e5m2 and what is for storing."""
    for f in formats():
        if f.levels > 256 or f.storing_alone or f.name == "fp8_e5m2":
            continue
        assert refused(f, "weight") is None or refused(f, "affine_weight") is None, f.name
        assert refused(f, "activation") is None, f.name
    with pytest.raises(FormatError) as caught:
        require_legal(get_format("fp8_e5m2"), "weight", "conv", "node 'conv1'")
    assert all((caught.value.seen, caught.value.rule, caught.value.place))
    assert "fp8_e4m3fn" in caught.value.remedy


def test_every_line_is_reached() -> None:
    odd = {"positive": (1, 2, 4), "gapless": (-(2**16), 1, 2**16), "far": range(2**20, 2**20 + 9)}
    tables = [*formats(), *(Format(name=name, table=table) for name, table in odd.items())]
    found = {id(refused(f, role, operator)) for f in tables for role in ROLES for operator in ("", "conv")}
    assert {id(line) for line in REFUSALS} <= found


def test_roles_of_activations() -> None:
    assert refusal(get_format("binary"), "activation", "conv") is None
    assert "consecutive" in (refusal(get_format("binary"), "storage") or "")
    assert refusal(get_format("int16"), "activation", "linear") is None
    assert refusal(get_format("fp8_e4m3fn"), "activation", "linear") is None
    assert "24 bits" in (refusal(get_format("fp8_e5m2"), "activation", "linear") or "")
    assert "16 bits" in (refusal(Format(name="none", table=(-(2**16), 1)), "activation") or "")
    assert "consecutive" in (refusal(get_format("fp8_e4m3fn"), "storage") or "")
    assert refusal(get_format("int16"), "storage", "add") is None
    assert refusal(get_format("int16"), "storage", "unary") is None
    for name in ("uint8", "int4", "levels31", "ternary"):
        for role in ("activation", "storage"):
            require_legal(get_format(name), role, "unary")
    with pytest.raises(FormatError, match="weight"):
        refusal(get_format("int4"), "weights")
    with pytest.raises(FormatError) as caught:
        require_legal(get_format("fp8_e5m2"), "activation", "conv", "node 'conv1'")
    assert caught.value.place == "node 'conv1'"
