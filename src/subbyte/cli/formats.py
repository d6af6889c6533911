"""``subbyte formats``: the number formats and the 4.6-bit pairs."""

from __future__ import annotations

from subbyte.cli.output import show_json, show_lines, show_table


def formats(name: str = "", /, *, brief: bool = False, json: bool = False) -> int:
    """Show the card of a number format, or every card, then a table of all formats and the pairs of level counts.

    Args:
        name: of one format, e.g. int4, levels17, ternary; all if left out.
        brief: of all formats only the tables.
        json: print JSON instead of cards and tables.
    """
    from subbyte.formats import cards

    if name:
        card = cards.card(name)
        if json:
            show_json(card.to_dict())
        else:
            show_lines(card.to_text())
        return 0
    every, pairs = cards.cards(), cards.pairs()
    if json:
        rules = [{**p._asdict(), "recipe": p.recipe, "mean_bits": p.mean_bits} for p in pairs]
        show_json({"names": list(cards.spellings()), "formats": [c.to_dict() for c in every], "pairs": rules})
        return 0
    if not brief:
        show_lines("\n\n".join(c.to_text() for c in every) + "\n")
    columns = ("format", "values", "levels", "bits", "stored bits", "weights", "activations")
    rows = [(c.name, c.table, c.levels, c.bits, c.stored_bits, c.weights, c.activations) for c in every]
    show_table("Formats", columns, rows)
    show_lines("Names: " + "; ".join(cards.spellings()))
    show_table(
        "Pairs of level counts whose products fit a signed byte (4.6-bit rule)",
        ("recipe", "activation levels", "weight levels", "largest product", "mean bits"),
        [(p.recipe, p.activations, p.weights, p.product, p.mean_bits) for p in pairs],
    )
    return 0
