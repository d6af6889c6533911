"""How a number is written in few bits; see README.md."""

from __future__ import annotations

from subbyte.formats.blocks import BlockTensor, quantize_blocks, unpack_blocks
from subbyte.formats.codebook import Codebook, codebook
from subbyte.formats.dynamic_map import dynamic_map
from subbyte.formats.fitting import Fit, fit_codebook
from subbyte.formats.format import Format
from subbyte.formats.granularity import DualGrained, Granularity, Mx, PerChannel, PerGroup, PerTensor, get_granularity
from subbyte.formats.groups import Groups
from subbyte.formats.packing import packed_size
from subbyte.formats.qtensor import QTensor
from subbyte.formats.quantize import quantize_weight, requantize_with_scale
from subbyte.formats.refusals import refusal, require_legal
from subbyte.formats.registry import (
    format_names,
    formats,
    get_format,
    register_format,
    resolve_format,
    unregister_format,
)
from subbyte.formats.small_float import SmallFloat, small_float

__all__ = [
    "BlockTensor",
    "Codebook",
    "DualGrained",
    "Fit",
    "Format",
    "Granularity",
    "Groups",
    "Mx",
    "PerChannel",
    "PerGroup",
    "PerTensor",
    "QTensor",
    "SmallFloat",
    "codebook",
    "dynamic_map",
    "fit_codebook",
    "format_names",
    "formats",
    "get_format",
    "get_granularity",
    "packed_size",
    "quantize_blocks",
    "quantize_weight",
    "refusal",
    "register_format",
    "requantize_with_scale",
    "require_legal",
    "resolve_format",
    "small_float",
    "unpack_blocks",
    "unregister_format",
]
