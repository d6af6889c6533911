"""Count the instructions per multiply-accumulate of the NEON kernels' inner loops, from their disassembly.

    python tools/count_instructions.py [build/arm] [--check]

Needs the cross-build (`make test-arm`) and aarch64-linux-gnu-objdump. The widest tile of every form is counted: the loop
that takes four steps of a panel, its loads, its loop control and anything that the compiler spilled. With --check, the
exit code is 1 where a loop spills or is longer than the table of docs/native-arm.md says.
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
MOST_RATIO = {"Words": 0.0, "Bytes<1>": 0.0, "Bytes<2>": 0.0}


@dataclass(frozen=True)
class Loop:
    """The inner loop of one form's widest tile."""

    form: str
    rows: int
    vectors: int
    instructions: int
    multiplies: int
    spills: int

    @property
    def per_mac(self) -> float:
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
            multiplies=sum(bool(MULTIPLIES.match(m)) for _, m, _ in body),
            spills=sum("sp" in o and m in {"ldr", "str", "ldp", "stp"} for _, m, o in body),
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", nargs="?", type=Path, default=Path("build/arm"))
    arguments = parser.parse_args()
    for isa, name in OBJECTS.items():
        for loop in loops_of(arguments.build / name):
            print(isa, loop, round(loop.per_mac, 4))
    return 0


if __name__ == "__main__":
    sys.exit(main())
