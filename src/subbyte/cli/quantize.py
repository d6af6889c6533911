"""``subbyte quantize``: a float network and unlabelled samples in, an integer model file out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from subbyte.cli.options import (
    MODEL_FILE,
    NO_PREPROCESSING,
    Preprocessing,
    checked_seed,
    float_model,
    output_path,
    positive,
)
from subbyte.cli.output import progress, show_json, show_lines
from subbyte.cli.synthetic import is_synthetic, method, samples_of

if TYPE_CHECKING:
    from subbyte.quantization.recipe import Recipe


def quantize(
    model: Path,
    out: Path,
    /,
    *,
    data: Path,
    domain: str = "",
    recipe: str = "w8a8",
    arithmetic: Literal["m31", "m15", "shift"] = "m31",
    methods: str | None = None,
    samples: int = 256,
    seed: int = 0,
    preprocessing: Preprocessing = NO_PREPROCESSING,
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Turn a float network into an integer-only one.

    Args:
        model: the float network, an .onnx file.
        out: the .subbyte file to write.
        data: calibration samples: .npz, .npy, folder, or CSV of paths. Labels are not used. Without any: synthetic
            makes samples from the network's batch norms (synthetic:kl, synthetic:l2), or noise (synthetic:uniform,
            synthetic:normal).
        domain: for synthetic samples: smallest and largest number before preprocessing, such as 0,255 or =-1,1.
        recipe: short name such as w8a8, w4a8, wternary_a8, x31_w17, or a .toml file.
        arithmetic: how accumulators are rescaled.
        methods: how weights are found: names separated by commas, as in recipes; the recipe's own unless given.
            Those that learn (adaround, block_reconstruction, distill) come last.
        samples: how many samples are used at most.
        seed: of every random choice.
        preprocessing: see its options.
        json: print JSON instead of a summary.
        quiet: no progress, no summary.
    """
    from subbyte import pipeline

    positive(samples=samples)
    target = output_path(out, (MODEL_FILE,), *([model] if is_synthetic(data) else [model, data]))
    process = preprocessing.given()
    options: dict[str, Any] = {
        "arithmetic": arithmetic,
        "samples": samples,
        "seed": checked_seed(seed),
        "preprocess": process,
    }
    graph = float_model(model)
    with progress(quiet=quiet or json) as report:
        found = samples_of(data, graph, domain, samples, seed, process, report)
        quantized = pipeline.quantize(graph, found, recipe=_with_methods(recipe, methods), progress=report, **options)
    if is_synthetic(data):
        quantized.metadata["calibration"] = f"synthetic:{method(data)}"
    size = quantized.save(target)
    if json:
        float_bytes = model.stat().st_size
        show_json({"out": str(out), "file_bytes": size, "float_file_bytes": float_bytes, **quantized.metadata})
    elif not quiet:
        show_lines(quantized.summary())
        show_lines(f"{out}: {size:,} bytes ({model}: {model.stat().st_size:,})")
    return 0


def _with_methods(recipe: str, methods: str | None) -> str | Recipe:
    """The recipe with methods from the command line."""
    if methods is None:
        return recipe
    from subbyte.quantization.recipe import load_recipe

    names = tuple(name.strip() for name in methods.split(",") if name.strip())
    return replace(load_recipe(recipe), methods=names)
