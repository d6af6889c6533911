"""Rewrites of float graphs; ``prepare`` runs the canonical list."""

from __future__ import annotations

from subbyte.graph.passes.canonical import CANONICAL, PREPARED, prepare
from subbyte.graph.passes.protocol import Pass, PassResult, run_passes

__all__ = ["CANONICAL", "PREPARED", "Pass", "PassResult", "prepare", "run_passes"]
