"""Ranges of activations: observers over the calibration data, then a choice by the error that readers see.

Two passes over the data. The first fills the observers of every slot; its memory does not grow with the number of
batches. The second, over a bounded number of samples, quantizes one slot at a time with each candidate range, runs
the nodes that read it and keeps the candidate whose outputs stay nearest to the float ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from subbyte.errors import SubbyteError
from subbyte.formats.format import Format
from subbyte.formats.trims import Trim
from subbyte.graph.ir import FloatType, Graph, IntType, Node
from subbyte.graph.torch_executor import FloatExecutor
from subbyte.quantization.fake_quant import fake_quantize, fake_trim, in_place
from subbyte.quantization.resolve import is_wide
from subbyte.quantization.slots import Slot, Slots, multiplied_channels
from subbyte.ranges import Observers, affine_params

if TYPE_CHECKING:
    import torch

Feeds = Mapping[str, npt.NDArray[np.float32]]
Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total); total is 0 where unknown."""

Question = tuple[str, str, str, tuple[tuple[str, str], ...]]
"""Cluster, format, observer, and readers with their trims: what decides a range."""

Ranges = dict[Question, IntType]

WIDE_HEADROOM = 2.0
"""16-bit outputs keep this factor above the calibrated extremes: codes are plenty, saturation is not."""

SYNTHETIC_HEADROOM = 8.0
"""The same for synthetic samples. No batch norm stands behind the last layer, and samples that look like nothing leave
outputs small: real ones saturate there, and classes tie. Their extremes still have 4,096 codes."""

_CANDIDATES_8 = ("min_max", "percentile_99.9", "percentile_99.99", "mse")
_CANDIDATES_LOW = ("mse", "octav", "percentile_99.9", "percentile_99.99")  # never min_max: it collapses real nets


def candidates(slot: Slot) -> tuple[str, ...]:
    """Observers tried for a slot."""
    if slot.observer:
        return (slot.observer,)
    if is_wide(slot.format):
        return ("min_max",)
    return _CANDIDATES_8 if slot.format.levels > 128 else _CANDIDATES_LOW


def calibrate(
    graph: Graph,
    slots: Slots,
    batches: Iterable[Feeds],
    judged_samples: int,
    progress: Progress,
    known: Ranges | None = None,
) -> Mapping[tuple[str, str], IntType]:
    """A scale and zero point for every slot, by slot key.

    Args:
        graph: prepared float graph.
        slots: what needs a range.
        batches: float32 inputs by name, batch first; iterated twice. An input with a declared domain gets that range.
        judged_samples: bound on the samples of the second pass.
        progress: called after every batch.
        known: what earlier calls with the same network and samples found; slots that are there are not looked at
            again, and the others join them.
    """
    known = {} if known is None else known
    everything = [*slots.storage.values(), *slots.operands.values()]
    questions = {slot.key: _question(slot, slots.trims) for slot in everything}
    wanted = [slot for slot in everything if questions[slot.key] not in known]
    if wanted:
        found = _found(graph, wanted, slots.trims, batches, judged_samples, progress)
        known.update({questions[slot.key]: found[slot.key] for slot in wanted})
    return {key: known[question] for key, question in questions.items()}


def with_room(types: Mapping[tuple[str, str], IntType]) -> Mapping[tuple[str, str], IntType]:
    """The types with ``SYNTHETIC_HEADROOM`` for 16-bit values, whose ranges synthetic samples do not tell."""
    more = SYNTHETIC_HEADROOM / WIDE_HEADROOM
    return {k: replace(t, scale=more * t.scale) if is_wide(t.format) else t for k, t in types.items()}


def _question(slot: Slot, trims: Mapping[str, Trim]) -> Question:
    readers = tuple((n.name, trims[n.name].name if n.name in trims else "") for n in slot.readers)
    return slot.cluster.root, slot.format.name, slot.observer or "", readers


def _found(
    graph: Graph,
    wanted: Sequence[Slot],
    trims: Mapping[str, Trim],
    batches: Iterable[Feeds],
    judged_samples: int,
    progress: Progress,
) -> dict[tuple[str, str], IntType]:
    observers = _observe(graph, wanted, batches, progress)
    types: dict[tuple[str, str], list[IntType]] = {}
    for slot in wanted:
        seen, declared = observers[slot.cluster.root], declared_range(graph, slot)
        ranges = [declared] if declared else [seen.range(name, slot.format) for name in candidates(slot)]
        options = [int_type(lo, hi, slot.format, graph, slot) for lo, hi in ranges]
        types[slot.key] = list(dict.fromkeys(options))
    errors = _judge(graph, wanted, types, trims, batches, judged_samples, progress)
    return {key: options[int(np.argmin(errors[key]))] for key, options in types.items()}


def declared_range(graph: Graph, slot: Slot) -> tuple[float, float] | None:
    """The declared domain of a network input: its range, whatever the samples hold."""
    kinds = [graph.types[value] for value in slot.cluster.values if value in graph.inputs]
    domains = [kind.domain for kind in kinds if isinstance(kind, FloatType) and kind.domain]
    return (min(d[0] for d in domains), max(d[1] for d in domains)) if domains else None


def int_type(lo: float, hi: float, format_: Format, graph: Graph, slot: Slot) -> IntType:
    """A slot's type for a range of reals."""
    if is_wide(format_):
        top = WIDE_HEADROOM * max(abs(lo), abs(hi))
        lo, hi = -top, top
    scale, zero_point = affine_params(lo, hi, format_)
    return IntType(shape=graph.types[slot.cluster.root].shape, format=format_, scale=scale, zero_point=zero_point)


def _tensors(feeds: Feeds) -> dict[str, torch.Tensor]:
    import torch

    return {name: torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)) for name, x in feeds.items()}


def _observe(
    graph: Graph, wanted: Sequence[Slot], batches: Iterable[Feeds], progress: Progress
) -> dict[str, Observers]:
    """Filled observers by cluster root; one histogram serves all that read the whole distribution."""
    names: dict[str, list[str]] = {}
    roots: dict[str, str] = {}
    for slot in wanted:
        names.setdefault(slot.cluster.root, []).extend(candidates(slot))
        roots.update(dict.fromkeys(slot.cluster.observed, slot.cluster.root))
    observers = {root: Observers(dict.fromkeys(asked)) for root, asked in names.items()}
    executor = FloatExecutor(graph)
    for done, feeds in enumerate(batches, 1):
        for value, array in executor.run(_tensors(feeds)).items():
            if value in roots:
                _take_in(observers[roots[value]], value, array.detach().numpy())
        progress("observe", done, 0)
    return observers


def _take_in(observers: Observers, value: str, array: npt.NDArray[np.float32]) -> None:
    try:
        observers.observe(array)
    except SubbyteError as error:
        raise error.at(f"value {value!r}") from error


def _judge(
    graph: Graph,
    wanted: Sequence[Slot],
    types: Mapping[tuple[str, str], list[IntType]],
    trims: Mapping[str, Trim],
    batches: Iterable[Feeds],
    judged_samples: int,
    progress: Progress,
) -> dict[tuple[str, str], npt.NDArray[np.float64]]:
    """Summed relative squared error of every reader for every candidate of every slot."""
    executor = FloatExecutor(graph)
    errors = {key: np.zeros(len(options)) for key, options in types.items()}
    open_slots = [s for s in wanted if len(types[s.key]) > 1]
    seen = 0
    for feeds in batches:
        if seen >= judged_samples or not open_slots:
            break
        room = judged_samples - seen
        env = executor.run(_tensors({name: x[:room] for name, x in feeds.items()}))
        seen += min(room, len(next(iter(feeds.values()))))
        for slot in open_slots:
            for i, option in enumerate(types[slot.key]):
                errors[slot.key][i] += _error(executor, slot, option, trims, env)
        progress("choose ranges", seen, judged_samples)
    return errors


def _error(
    executor: FloatExecutor, slot: Slot, option: IntType, trims: Mapping[str, Trim], env: Mapping[str, torch.Tensor]
) -> float:
    inside = set(slot.cluster.values)
    changed = {v: fake_quantize(env[v], option) for v in slot.cluster.values if _read(v, slot.readers)}
    if not slot.readers:
        return sum(_relative(fake_quantize(env[v], option), env[v]) for v in slot.cluster.observed)
    total = 0.0
    for node in slot.readers:
        inputs = {i: changed[i] for i in node.inputs if i in inside}
        if node.name in trims:
            group = multiplied_channels(executor.graph, node)
            inputs = {i: fake_trim(x, option, in_place(trims[node.name]), group) for i, x in inputs.items()}
        total += _relative(executor.step(node, {**env, **inputs}), env[node.output])
    return total


def _read(value: str, readers: Sequence[Node]) -> bool:
    return any(value in n.inputs for n in readers)


def _relative(approximate: torch.Tensor, exact: torch.Tensor) -> float:
    error = (approximate - exact).square().sum().item()
    return float(error / max(exact.square().sum().item(), 1e-30))
