"""subbyte: trained neural networks below a byte, in integers only, on hardware people already own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subbyte.allocation.found import Found as Found
    from subbyte.allocation.search import search as search
    from subbyte.allocation.settings import Settings as Settings
    from subbyte.errors import SubbyteError as SubbyteError
    from subbyte.formats import Format as Format
    from subbyte.formats import format_names as format_names
    from subbyte.formats import get_format as get_format
    from subbyte.formats import register_format as register_format
    from subbyte.graph.ir import Graph as Graph
    from subbyte.model import QuantizedModel as QuantizedModel
    from subbyte.model import load as load
    from subbyte.pipeline import load_model as load_model
    from subbyte.pipeline import quantize as quantize
    from subbyte.pipeline import trace as trace
    from subbyte.quantization.recipe import Recipe as Recipe
    from subbyte.quantization.recipe import Rule as Rule
    from subbyte.zeroshot.synthesize import synthesize as synthesize

__version__ = "0.1.0"

_HOME = {  # public names in flow order; imported at first use, so that running a model does not load the compressor
    "load_model": "subbyte.pipeline",
    "trace": "subbyte.pipeline",
    "Graph": "subbyte.graph.ir",
    "get_format": "subbyte.formats",
    "register_format": "subbyte.formats",
    "format_names": "subbyte.formats",
    "Format": "subbyte.formats",
    "Recipe": "subbyte.quantization.recipe",
    "Rule": "subbyte.quantization.recipe",
    "synthesize": "subbyte.zeroshot.synthesize",
    "quantize": "subbyte.pipeline",
    "search": "subbyte.allocation.search",
    "Settings": "subbyte.allocation.settings",
    "Found": "subbyte.allocation.found",
    "QuantizedModel": "subbyte.model",
    "load": "subbyte.model",
    "SubbyteError": "subbyte.errors",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604 - names are strings by construction


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'subbyte' has no attribute {name!r}")
