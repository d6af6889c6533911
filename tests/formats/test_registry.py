"""Names of formats: families by pattern, near misses, own formats."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from subbyte.errors import FormatError
from subbyte.formats import Format, format_names, formats, get_format, register_format, resolve_format
from subbyte.formats.cards import card
from subbyte.formats.registry import ALIASES, unregister_format
from subbyte.quantization.recipe import named_recipe


def test_integer_tables() -> None:
    for bits in range(1, 9):
        assert list(get_format(f"int{bits}").table) == list(range(-(2 ** (bits - 1)), 2 ** (bits - 1)))
        assert list(get_format(f"uint{bits}").table) == list(range(2**bits))
    wide = get_format("int16")
    assert (wide.lo, wide.hi, wide.storage, wide.stored_lo) == (-32768, 32767, "int16", -32768)


def test_every_odd_level_count_exists() -> None:
    for count in range(3, 256, 2):
        f = get_format(f"levels{count}")
        assert (f.levels, f.lo, f.hi) == (count, -(count // 2), count // 2)
        assert f.symmetric
        assert f.has_zero
        assert f.fits_int8


def test_small_families() -> None:
    assert list(get_format("ternary").table) == [-1, 0, 1]
    assert list(get_format("binary").table) == [-1, 1]
    assert [list(get_format(f"midrise{b}").table) for b in (1, 2)] == [[-1, 1], [-3, -1, 1, 3]]
    for bits in range(1, 6):
        f = get_format(f"midrise{bits}")
        assert (f.levels, f.step, f.symmetric, f.has_zero) == (2**bits, 2, True, False)


def test_the_same_object_each_time() -> None:
    assert get_format("levels33") is get_format("levels33")
    assert get_format(get_format("int4")) is get_format("int4")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("int9", "int8"),
        ("int12", "int16"),
        ("int0", "int1"),
        ("uint16", "uint8"),
        ("levels18", "levels17 or levels19"),
        ("levels256", "levels255"),
        ("levels1", "levels3"),
        ("levels99999", "levels255"),
        ("midrise6", "midrise5"),
        ("ternery", "ternary"),
        ("Binary", "binary"),
        ("int04", "int4"),
        ("int４", "int"),  # a full-width digit
        ("int4\n", "int4"),
        ("", "use a name"),
        ("levels" + "9" * 5000, "use a name|did you"),
    ],
)
def test_unknown_names_say_what_is_near(name: str, near: str) -> None:
    with pytest.raises(FormatError) as caught:
        get_format(name)
    assert any(n in caught.value.remedy for n in near.split("|"))
    assert caught.value.seen
    assert caught.value.rule


def test_lists_agree() -> None:
    names = format_names()
    assert len(set(names)) == len(names)
    assert tuple(f.name for f in formats()) == names
    assert {"int8", "uint8", "int16", "levels17", "levels31", "ternary", "binary", "midrise4"} <= set(names)


@pytest.fixture
def six() -> Iterator[Format]:
    yield register_format(Format(name="six", table=(-2, -1, 0, 1, 2, 4)))
    unregister_format("six")


def test_own_format(six: Format) -> None:
    assert get_format("six") is six
    assert "six" in format_names()
    assert register_format(Format(name="six", table=[-2, -1, 0, 1, 2, 4])) is six
    with pytest.raises(FormatError, match="sixx"):
        get_format("sixx")
    with pytest.raises(FormatError, match="another name"):
        register_format(Format(name="six", table=(-4, -2, -1, 0, 1, 2)))


@pytest.mark.parametrize("name", ["int4", "levels18", "levels17", "ternary", "midrise9"])
def test_names_of_families_cannot_be_taken(name: str) -> None:
    with pytest.raises(FormatError, match="another name"):
        register_format(Format(name=name, table=(-5, 0, 5)))
    with pytest.raises(FormatError, match="another name"):
        resolve_format(name, (-5, 0, 5))
    assert name not in format_names() or get_format(name).hi != 5


def test_files_bring_their_tables(six: Format) -> None:
    assert resolve_format("six", [-2, -1, 0, 1, 2, 4], "radix6") is six
    assert resolve_format("int4", range(-8, 8), "bits4") is get_format("int4")
    assert resolve_format("levels5", range(-2, 3), "bits3").packing == "bits3"
    other = resolve_format("seven", [-2, -1, 0, 1, 2, 4, 8], "")
    assert other.levels == 7
    assert "seven" not in format_names()
    with pytest.raises(FormatError, match="already has"):
        resolve_format("six", [-2, -1, 0, 1, 2, 5])


def test_table_invariants() -> None:
    far = 2**53 + 1
    wide = ([0, far], [-far, 0], range(far - 1, far + 1), range(70000))
    for table in ([0], [], [1, 1], [2, 1], [0.5, 1.5], ["a", "b"], *wide):
        with pytest.raises(FormatError, match="ascending"):
            Format(name="bad", table=table)  # type: ignore[arg-type]
    for name in ("", "a b", "4x", "x" * 41, "é", "a\u202eb", "</script>", "a\n"):
        with pytest.raises(FormatError, match="name"):
            Format(name=name, table=(0, 1))
    with pytest.raises(FormatError, match="packing"):
        Format(name="bad", table=range(5), packing="bits2")


def test_tables_compare_by_value() -> None:
    whole = Format(name="t", table=np.array([-1, 0, 1]))  # type: ignore[arg-type]
    assert whole == Format(name="t", table=range(-1, 2), title="words do not count")
    assert hash(whole) == hash(Format(name="t", table=[-1, 0, 1]))
    assert whole.uniform
    with pytest.raises(ValueError, match="read-only"):
        whole.values[0] = 9


def test_storage_follows_the_span() -> None:
    assert Format(name="wide", table=(-200, 1, 56)).storage == "int16"
    codes = Format(name="codes", table=(-200, 0, 56))
    assert (codes.coded, codes.storage, codes.stored_lo, codes.stored_hi) == (True, "uint8", 0, 2)
    assert codes.centred(1).tolist() == [-200, 0, 56]
    assert get_format("fp8_e4m3fn").coded
    assert get_format("fp6_e3m2").coded
    assert not any(get_format(name).coded for name in ("int16", "uint8", "nf4", "fp6_e2m3"))
    edge = Format(name="edge", table=(-200, 0, 55))
    assert (edge.storage, edge.stored_lo, edge.stored_hi) == ("uint8", 0, 255)


def test_names_of_others() -> None:
    """They resolve to formats of this package, at what those cost, and cannot be given to other tables."""
    for alias in ALIASES:
        f = get_format(alias.name)
        assert f is get_format(alias.format)
        assert alias.name not in format_names()
        assert any(line.startswith(f"{alias.name}: ") for line in card(alias.name).aliases)
        assert alias.name in card(alias.format).to_text()
        with pytest.raises(FormatError, match="another name"):
            register_format(Format(name=alias.name, table=(-5, 0, 5)))
        for table in (f.table, (-5, 0, 5)):
            with pytest.raises(FormatError, match="another name"):
                resolve_format(alias.name, table)
        with pytest.raises(FormatError, match=alias.name):
            get_format(alias.name.replace("abq", "agq"))
    assert list(get_format("abq2").table) == [-2, -1, 0, 1, 2]
    assert list(get_format("abq1").table) == [-1, 0, 1]
    assert (round(card("abq2").bits, 2), round(card("abq2").stored_bits, 2)) == (2.32, 2.37)
    assert card("abq1").stored_bits == 1.6
    recipe = named_recipe("wabq2_a8")
    assert (recipe.rules[0].weights, recipe.rules[0].activations) == ("levels5", "uint8")
    assert card("int4").aliases == ()
