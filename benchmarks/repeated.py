"""One network and one fold under many recipes: ranges that one recipe's calibration found serve the next."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

import subbyte as sb
from benchmarks.nets import Floats, Fold
from subbyte.graph.passes import prepare
from subbyte.ingest.data import batches
from subbyte.model import QuantizedModel, provenance
from subbyte.pipeline import BATCH_SIZE, to_integers
from subbyte.quantization.calibrate import Ranges
from subbyte.quantization.methods.network import Network
from subbyte.quantization.methods.normals import batch_norm_normals
from subbyte.quantization.recipe import load_recipe
from subbyte.quantization.unbend import unbend

SAMPLES = 256


class Repeated:
    """``sb.quantize(model, fold.calibration, recipe=...)`` again and again, with the same result in less time."""

    def __init__(self, model: sb.Graph, fold: Fold) -> None:
        prepared = unbend(prepare(model), "m31")
        self.fold = fold
        self.data = batches(fold.calibration, prepared, batch_size=BATCH_SIZE, limit=SAMPLES)
        self.known = Network(graph=prepared, normals=batch_norm_normals(model, prepared), batches=self.data)
        self.ranges: Ranges = {}

    def quantize(self, recipe: str, methods: tuple[str, ...] | None = None) -> QuantizedModel:
        """The integer model of a recipe; None takes the default methods."""
        chosen = replace(load_recipe(recipe), methods=methods)
        integer = to_integers(self.known, chosen, "m31", SAMPLES, self.ranges)
        return QuantizedModel(integer, provenance(chosen.name, "m31", self.data.samples, 0, None))

    def made(self, recipe: str, methods: tuple[str, ...] | None = None) -> tuple[Floats, int, float]:
        """Outputs of the scored samples on the native engine, bytes of the file, seconds to quantize."""
        begin = time.perf_counter()
        q = self.quantize(recipe, methods)
        seconds = time.perf_counter() - begin
        x = self.fold.x
        return np.concatenate([np.asarray(q(x[i : i + 100])) for i in range(0, len(x), 100)]), q.nbytes, seconds
