"""Tensors in flat blocks: each run of ``block`` numbers has one float32 scale, its largest magnitude.

``real = table[code] * absmax[block]``, one float32 product. The tensor is read in C order and cut into blocks whatever
its shape; the last block may be shorter. This is how the state of optimizers is kept (``dynamic_map.py``), and
codebooks of weights outside networks; layers of networks have scales per tensor or channel (``granularity.py``).

Source: Dettmers et al., "8-bit optimizers via block-wise quantization", 2022, section 2.1. The largest magnitudes and
``dequantize`` are those of bitsandbytes 0.50.2 (CPU) for the same table, bit for bit but for -0.0, which is 0.0 here.
Codes differ, because its kernel does not choose the nearest ones (0.15 % of those of normal numbers in blocks of 256):
it looks them up by ``x / absmax`` cut to a 65536th, so that 1e-6 of the largest magnitude becomes 2.1e-5 with the
signed 8-bit map (here 5.5e-7), and a block of zeros gets code 0, which is -0.993 times 0 (here 127, the code of 0). Of
two values equally near, that at an even distance from the code of 0 is taken, as everywhere in this package;
bitsandbytes takes the lower one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.rounding import Seed, check_rounding
from subbyte.errors import DataError, FormatError
from subbyte.formats.encode import from_table
from subbyte.formats.format import Format
from subbyte.formats.packing import MAX_LEVELS, default_packing, get_packing

Floats = npt.NDArray[np.float32]

BLOCK = 256
"""Numbers per block that bitsandbytes uses for optimizer state; the paper had 2048."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockTensor:
    """``real = table[code] * absmax[index // block]``, tested by ``check()`` in this order.

    1. ``table`` is float32, 2 to 256 finite values, ascending strictly, of largest magnitude 1.
    2. ``codes`` is a uint8 array, every code below ``len(table)``.
    3. ``block`` is 1 or more.
    4. ``absmax`` is float32 [ceil(codes.size / block)], finite, 0 or more.
    """

    codes: npt.NDArray[np.uint8]
    absmax: Floats
    table: Floats
    block: int = BLOCK

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the codes."""
        return self.codes.shape

    @property
    def nbytes(self) -> int:
        """Bytes of ``pack()``: codes in their smallest packing, four for each block."""
        return self._packed_codes + 4 * self.absmax.size

    def check(self) -> None:
        """Test the four invariants; FormatError names the first that is broken."""
        checked_table(self.table)
        if self.codes.dtype != np.uint8 or (self.codes.size and int(self.codes.max()) >= self.table.size):
            raise self._broken(f"codes are {self.codes.dtype}", f"2: uint8 below {self.table.size}")
        if self.block < 1:
            raise self._broken(f"block is {self.block}", "3: a block holds 1 number or more")
        blocks = _count(self.codes.size, self.block)
        if self.absmax.dtype != np.float32 or self.absmax.shape != (blocks,):
            raise self._broken(f"absmax is {self.absmax.dtype}{list(self.absmax.shape)}", f"4: float32[{blocks}]")
        if not bool(np.all(np.isfinite(self.absmax) & (self.absmax >= 0))):
            raise self._broken("an absmax is negative or not finite", "4: finite, 0 or more")

    def dequantize(self) -> Floats:
        """The reals, float32, in the shape of the codes."""
        rows = _rows(self.table[self.codes.reshape(-1)], self.block)
        return np.asarray((rows * self.absmax[:, None]).reshape(-1)[: self.codes.size].reshape(self.shape) + 0.0)

    def pack(self) -> bytes:
        """Codes in C order, packed, then the largest magnitudes as little-endian float32."""
        levels = self.table.size
        return get_packing(default_packing(levels)).pack(self.codes, levels) + self.absmax.astype("<f4").tobytes()

    @property
    def _packed_codes(self) -> int:
        return get_packing(default_packing(self.table.size)).size(self.codes.size)

    def _broken(self, seen: str, rule: str) -> FormatError:
        return FormatError(seen, f"BlockTensor invariant {rule}", "build the tensor with formats.quantize_blocks")


def quantize_blocks(
    x: npt.ArrayLike,
    table: Format | npt.ArrayLike,
    block: int = BLOCK,
    rounding: str = "half_even",
    seed: Seed = None,
) -> BlockTensor:
    """Quantize a tensor in flat blocks: the true nearest code of each number, whatever the table.

    A block of zeros has the largest magnitude 0 and the code nearest to 0. ``rounding="keep_nonzero"`` is the guard for
    second moments, which are divided by: no number but 0 gets the code of 0.

    Args:
        x: float32 (other real types are rounded to it), any shape, none included.
        table: a format, whose values are divided by the largest magnitude; or 2 to 256 float32 values as in
            ``BlockTensor``, such as ``dynamic_map(8)``.
        block: numbers per scale, 1 or more.
        rounding: a name of ``arithmetic/rounding.py``.
        seed: for stochastic rounding.

    Raises:
        DataError: x is not real or not finite in float32, or has negative numbers where the table has none.
        FormatError: bad table, block or rounding.
    """
    check_rounding(rounding, seed)
    values = block_table(table) if isinstance(table, Format) else checked_table(table)
    if block < 1:
        raise FormatError(f"a block of {block} numbers is asked for", "a block holds 1 number or more", "use 256")
    array = _checked(x, values)
    rows = _rows(array.reshape(-1), block)
    absmax = np.abs(rows).max(axis=1, initial=0.0)
    # float64 holds the quotient of two float32 numbers well enough to decide every tie between table values rightly.
    quotient = rows.astype(np.float64) / np.where(absmax > 0, absmax, 1.0)[:, None].astype(np.float64)
    codes = from_table(values.astype(np.float64), quotient, rounding, seed)
    tensor = BlockTensor(
        codes=codes.reshape(-1)[: array.size].astype(np.uint8).reshape(array.shape),
        absmax=absmax,
        table=values,
        block=block,
    )
    tensor.check()
    return tensor


def unpack_blocks(
    data: bytes, shape: tuple[int, ...], table: Format | npt.ArrayLike, block: int = BLOCK
) -> BlockTensor:
    """The tensor of ``BlockTensor.pack()``.

    Raises:
        FormatError: wrong length, a code outside the table, a magnitude that is none.
    """
    values = block_table(table) if isinstance(table, Format) else checked_table(table)
    packing, count = get_packing(default_packing(values.size)), math.prod(shape)
    head, blocks = packing.size(count), _count(count, max(block, 1))
    if len(data) != head + 4 * blocks:
        raise FormatError(
            f"{len(data)} bytes are to be {count} codes and {blocks} magnitudes",
            f"packed blocks of this shape have {head + 4 * blocks} bytes",
            "give the shape, table and block with which the tensor was packed",
        )
    codes = packing.unpack(data[:head], count, values.size).astype(np.uint8).reshape(shape)
    absmax = np.frombuffer(data, dtype="<f4", offset=head).astype(np.float32)
    tensor = BlockTensor(codes=codes, absmax=absmax, table=values, block=block)
    tensor.check()
    return tensor


def block_table(format: Format) -> Floats:
    """A format's values over their largest magnitude, float32.

    Raises:
        FormatError: more than 256 levels, or two values that float32 cannot tell apart.
    """
    return checked_table((format.values / format.max_abs).astype(np.float32))


def checked_table(table: npt.ArrayLike) -> Floats:
    """A table as float32; FormatError where it is none (first invariant of ``BlockTensor``)."""
    values = np.asarray(table)
    good = values.dtype.kind == "f" and values.ndim == 1 and 2 <= values.size <= min(256, MAX_LEVELS)
    if good:
        values = values.astype(np.float32)
        good = bool(np.all(np.diff(values) > 0) and np.abs(values).max() == 1)
    if not good:
        raise FormatError(
            f"a table of blocks is {values.dtype}{list(values.shape)}: {values.reshape(-1)[:4].tolist()}",
            "a table holds 2 to 256 reals that ascend strictly, of largest magnitude 1",
            "sort the values, remove duplicates and divide by the largest magnitude; or use dynamic_map(8)",
        )
    return values


def _checked(x: npt.ArrayLike, values: Floats) -> Floats:
    array = np.asarray(x)
    if array.dtype.kind in "fiub":
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    if array.dtype != np.float32 or not bool(np.all(np.isfinite(array))):
        raise DataError(
            f"numbers of dtype {np.asarray(x).dtype} with a NaN, an infinity or one too large are to be kept in blocks",
            "numbers are real and finite in float32",
            "look for the step at which they left it, usually a learning rate that is too high",
        )
    if values[0] >= 0 and bool(np.any(array < 0)):
        raise DataError(
            f"a number is {array.min()}, and the table begins at {values[0]}",
            "a table without negative values keeps numbers of 0 and above",
            "use a signed table such as dynamic_map(8)",
        )
    return array


def _count(size: int, block: int) -> int:
    return -(-size // block)


def _rows(flat: Floats, block: int) -> Floats:
    """[blocks, block], zeros behind the end."""
    padded = np.zeros(_count(flat.size, block) * block, dtype=np.float32)
    padded[: flat.size] = flat
    return padded.reshape(-1, block)
