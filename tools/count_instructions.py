"""Count the instructions per multiply-accumulate of the NEON kernels' inner loops, from their disassembly.

    python tools/count_instructions.py [build/arm]

Needs the cross-build (`make test-arm`) and aarch64-linux-gnu-objdump. The widest tile of every form is counted: the
loop that takes four steps of a panel, with its loads, its loop control and whatever the compiler spilled. The exit
code is 1 where a form has no such loop or needs a larger share of the instructions of int8 than it should.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OBJECTS = {
    "neon": "CMakeFiles/subbyte_neon.dir/native/src/kernels/neon.cpp.o",
    "neon_dotprod": "CMakeFiles/subbyte_neon_dotprod.dir/native/src/kernels/neon_dotprod.cpp.o",
}
STEPS = 4  # of the inner loop
PRODUCTS = 16  # of a vector and a step
TILE = re.compile(r"<.*Tile<subbyte::\w+::(?:Form<subbyte::\w+::)?(\w+(?:<\d>)?)[ >]*::run<(\d), (\d)>\(")
LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
MULTIPLIES = re.compile(r"^(s?ml?(al|ull|la|ul)2?|sdot|mul)$")
FORMS = {
    "Exact<1>": "int8, weights down to -128",
    "Exact<2>": "int8, weights of -127..127",
    "Words": "4-bit weights, 8-bit activations",
    "Bytes<1>": "(31, 17) levels",
    "Bytes<2>": "4-bit weights and activations",
    "Quads": "any, with the dot product instruction",
}
REFERENCE = "Exact<2>"
MOST_RATIO = {"Words": 0.71, "Bytes<1>": 0.675, "Bytes<2>": 0.60, "Quads": 0.40}


@dataclass(frozen=True)
class Loop:
    """The inner loop of one form's widest tile."""

    form: str
    rows: int
    vectors: int
    instructions: int
    spills: int

    @property
    def per_mac(self) -> float:
        """Instructions per multiply-accumulate."""
        return self.instructions / (STEPS * PRODUCTS * self.rows * self.vectors)


def functions(listing: str) -> Iterator[tuple[str, list[tuple[int, str, str]]]]:
    """Every function of a listing: its name, and (address, mnemonic, operands) of each instruction."""
    for block in listing.split("\n\n"):
        head, _, body = block.strip().partition("\n")
        if not head.endswith(">:"):
            continue
        found = [LINE.match(line) for line in body.splitlines()]
        yield head, [(int(m[1], 16), m[2], m[3]) for m in found if m]


def inner_loop(code: list[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    """The loop without loops inside that multiplies most."""
    place = {address: i for i, (address, _, _) in enumerate(code)}
    loops = []
    for i, (_, mnemonic, operands) in enumerate(code):
        target = re.search(r"([0-9a-f]+) <", operands)
        if mnemonic.startswith("b") and mnemonic != "bl" and target and place.get(int(target[1], 16), i + 1) <= i:
            loops.append((place[int(target[1], 16)], i))
    bodies = [code[a : b + 1] for a, b in loops if not any(a <= c and d < b for c, d in loops)]
    return max(bodies, key=lambda body: sum(bool(MULTIPLIES.match(m)) for _, m, _ in body), default=[])


def loops_of(path: Path) -> Iterator[Loop]:
    """The loops of one object file's widest tiles."""
    listing = subprocess.run(
        ["aarch64-linux-gnu-objdump", "-d", "-C", "--no-show-raw-insn", str(path)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for head, code in functions(listing):
        tile = TILE.search(head)
        if tile is None or int(tile[3]) != 4 or int(tile[2]) == 1:
            continue
        body = inner_loop(code)
        yield Loop(
            form=tile[1],
            rows=int(tile[2]),
            vectors=int(tile[3]),
            instructions=len(body),
            spills=sum("sp" in o and m in {"ldr", "str", "ldp", "stp"} for _, m, o in body),
        )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("build", nargs="?", type=Path, default=Path("build/arm"))
    arguments = parser.parse_args()
    loops = {loop.form: loop for name in OBJECTS.values() for loop in loops_of(arguments.build / name)}
    missing = FORMS.keys() - loops.keys()
    if missing:
        sys.stderr.write(f"no inner loop found for {', '.join(sorted(missing))}\n")
        return 1
    int8 = loops[REFERENCE].per_mac
    lines = [
        "| form | for | tile | instructions | spills | per MAC | of int8 |",
        "|---|---|---|---|---|---|---|",
    ]
    failed = False
    for form, meaning in FORMS.items():
        loop = loops[form]
        ratio = loop.per_mac / int8
        failed = failed or ratio > MOST_RATIO.get(form, ratio)
        tile = f"{loop.rows} x {4 * loop.vectors}"
        lines.append(
            f"| {form} | {meaning} | {tile} | {loop.instructions} | {loop.spills} | {loop.per_mac:.3f} | {ratio:.2f} |"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
