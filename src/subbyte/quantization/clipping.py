"""Ranges of low-bit activations by what they do to the results of the layers that read them, behind the others' codes.

Calibration lets a few observers' ranges compete, each alone on float values (``calibrate.py``). Here the winners are
moved: both ends of every low-bit range, on the quantized prefix, where clipped outliers and coarse steps of all layers
in front are seen too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from subbyte.graph.ir import IntType, Node
from subbyte.graph.ops.centred import interval
from subbyte.graph.torch_executor import FloatExecutor
from subbyte.quantization.calibrate import Feeds, Progress, declared_range, int_type
from subbyte.quantization.fake_quant import as_read, fake_quantize
from subbyte.quantization.resolve import is_low
from subbyte.quantization.scheme import Scheme, with_types
from subbyte.quantization.slots import Slot

if TYPE_CHECKING:
    import torch

    Env = dict[str, torch.Tensor]

ROUNDS = ((0.6, 0.8, 1.0, 1.2), (0.9, 1.0, 1.1), (0.95, 1.0, 1.05))
"""Factors of either end of a range, round by round."""


def output_error_clipping(scheme: Scheme, batches: Iterable[Feeds], samples: int, progress: Progress) -> Scheme:
    """The scheme with every low-bit range where its readers' results, float weights, come nearest to the float ones.

    All ranges move at once in each round, each judged with the others where they were. As in Nahshan et al. 2019,
    "Loss Aware Post-Training Quantization" (arXiv 1911.07190), ranges of least tensor error are the start and move
    together; what decides is the error of the layers behind them, not the loss.

    Args:
        scheme: with the calibrated ranges.
        batches: float32 inputs by name, batch first; iterated once a round.
        samples: bound on those that are looked at.
        progress: called after every batch.
    """
    for number, factors in enumerate(ROUNDS, 1):
        slots = [s for s in (*scheme.slots.storage.values(), *scheme.slots.operands.values()) if _searched(scheme, s)]
        if not slots:
            break
        options = {s.key: _options(scheme, s, factors) for s in slots}
        errors = {key: np.zeros(len(found)) for key, found in options.items()}
        seen = 0
        for feeds in batches:
            if seen >= samples:
                break
            _judge(scheme, slots, options, feeds, errors)
            seen += len(next(iter(feeds.values())))
            progress(f"move ranges, round {number} of {len(ROUNDS)}", seen, samples)
        chosen = {key: options[key][int(np.argmin(errors[key]))] for key in options}
        scheme = with_types(scheme, {**scheme.types, **chosen})
    return scheme


def _searched(scheme: Scheme, slot: Slot) -> bool:
    free = slot.observer is None and declared_range(scheme.graph, slot) is None
    return free and is_low(slot.format) and bool(slot.readers)  # 8-bit codes have room for outliers


def _options(scheme: Scheme, slot: Slot, factors: Sequence[float]) -> list[IntType]:
    """The present type first: it stays where nothing is better."""
    now = scheme.types[slot.key]
    lo, hi = (end * now.scale for end in interval(now))
    moved = (int_type(lo * a, hi * b, slot.format, scheme.graph, slot) for a in factors for b in factors)
    return list(dict.fromkeys([now, *moved]))


def _judge(
    scheme: Scheme,
    slots: Sequence[Slot],
    options: Mapping[tuple[str, str], list[IntType]],
    feeds: Feeds,
    errors: Mapping[tuple[str, str], np.ndarray[tuple[int], np.dtype[np.float64]]],
) -> None:
    """Add every option's relative squared error at its readers, over one batch."""
    executor = FloatExecutor(scheme.graph)
    exact = executor.run(feeds)
    raw = _behind_codes(scheme, executor, {name: exact[name] for name in scheme.graph.inputs})
    for slot in slots:
        stored = slot.key == scheme.slots.storage[slot.cluster.root].key
        inside = set(slot.cluster.values)
        for node in slot.readers:
            others = {i: _read(scheme, node, i, raw) for i in scheme.graph.activations(node) if i not in inside}
            wanted = exact[node.output]
            power = max(wanted.square().sum().item(), 1e-30)
            for k, option in enumerate(options[slot.key]):
                mine = {}
                for i in set(node.inputs) & inside:
                    value = raw[i] if stored else fake_quantize(raw[i], scheme.stored(i))
                    mine[i] = fake_quantize(value, option)
                result = executor.step(node, {**others, **mine})
                errors[slot.key][k] += (result - wanted).square().sum().item() / power


def _behind_codes(scheme: Scheme, executor: FloatExecutor, inputs: Env) -> Env:
    """Every value, before it is stored, as float weights make it of quantized operands."""
    raw = dict(inputs)
    for node in scheme.graph:
        operands = {i: _read(scheme, node, i, raw) for i in scheme.graph.activations(node)}
        raw[node.output] = executor.step(node, operands)
    return raw


def _read(scheme: Scheme, node: Node, value: str, raw: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """A value as a node reads it."""
    return as_read(fake_quantize(raw[value], scheme.stored(value)), scheme, node, value)
