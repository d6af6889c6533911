"""The native engine as Python sees it: built from an integer graph, run on arrays of stored integers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subbyte import _native
from subbyte.arithmetic.boundary import check_finite
from subbyte.errors import RunError, unknown_name
from subbyte.graph.feeds import check_codes, check_feeds
from subbyte.graph.ir import Constant, Graph, IntType, Node
from subbyte.graph.ops.op import attributes
from subbyte.graph.ops.trim import IntTrim
from subbyte.runtime import tuned
from subbyte.runtime.choices import Choice, Knob
from subbyte.runtime.native_plan import constant_arrays, plan_attributes, trim_parts

if TYPE_CHECKING:
    from subbyte.runtime.profile import LayerProfile, Work

Array = npt.NDArray[Any]
WEIGHTS = ("auto", "packed", "unpacked")
FAMILIES = ("auto", "dot", "lookup", "bit_planes")


class Engine:
    """An integer graph on the native engine; immutable, safe to run from several threads at once.

    The environment variable ``SUBBYTE_ISA`` (portable, avx2, avx512bw, avx512_vnni, avx512_vbmi) forces the
    instruction set of engines that are built while it is set; every one gives the same integers.

    Args:
        graph: of the integer dialect, as ``verify`` accepts it.
        threads: to run with, 1..256; 0 means 1. A batch is split among them, a single sample's operators are.
        weights: "packed" keeps the weights of every layer in as few bits (1 to 5, else 8) as their numbers need, at a
            few per cent of the speed of layers that compute; "unpacked" keeps bytes; "auto" packs the layers that
            are faster so, because they wait for memory. The results are the same integers.
        choices: by node how its operator computes, see ``knobs``; all choices give the same integers. Left out: what
            ``subbyte bench --tune`` found fastest on this machine, if it was asked (``SUBBYTE_TUNE=off``: nothing).
        family: how convolution and linear layers multiply: "dot" byte by byte; "lookup" by tables of what a few
            activations add up to; "bit_planes" by counting the bits that planes share. Layers that a family cannot do
            take "dot"; "auto" takes the others where they measured faster, unless ``weights`` says how to keep them.
            The results are the same integers. The environment variable ``SUBBYTE_FAMILY`` stands in for "auto".

    Raises:
        RunError: the graph holds something that the engine does not run, or SUBBYTE_ISA, ``weights`` or ``family`` is
            unknown.
    """

    def __init__(
        self,
        graph: Graph,
        threads: int = 1,
        weights: str = "auto",
        choices: Mapping[str, Choice] | None = None,
        family: str = "auto",
    ) -> None:
        self.graph = graph
        self.threads = _threads(threads)
        self._names = tuple(graph.types)
        self._only_input, self._only_output = graph.inputs[0], graph.outputs[0]
        _check_isa()
        if weights not in WEIGHTS:
            raise RunError(*unknown_name("way to keep weights", weights, WEIGHTS), f"graph {graph.name!r}")
        try:
            self._native = self._built(weights, choices, _family(family))
        except ValueError as error:
            raise _refused(str(error), graph) from None

    def _built(self, weights: str, choices: Mapping[str, Choice] | None, family: str) -> _native.Engine:
        if choices is not None or family != "auto":
            return _build(self.graph, self._names, weights, choices or {}, family)
        remembered = tuned.choices(self.graph, os.environ.get("SUBBYTE_ISA") or _native.available_isas()[0])
        if weights != "auto":
            decided = {"weights", "family"}
            remembered = {n: {k: w for k, w in c.items() if k not in decided} for n, c in remembered.items()}
        try:
            return _build(self.graph, self._names, weights, remembered, family)
        except ValueError as error:
            if not remembered:
                raise
            usual = _build(self.graph, self._names, weights, {}, family)
            warnings.warn(f"what was tuned cannot be used: {error}", tuned.TuningWarning, stacklevel=4)
            return usual

    @property
    def isa(self) -> str:
        """Instruction set of the kernels in use."""
        return self._native.isa

    @property
    def arena_bytes(self) -> int:
        """Memory for all activations of one sample."""
        return self._native.arena_bytes

    @property
    def families(self) -> dict[str, str]:
        """How every convolution and linear layer multiplies, by node name; see ``family`` of the constructor."""
        return self._native.families

    @property
    def weight_bytes(self) -> int:
        """Memory for the weights as the kernels read them, padding included; rescales and biases are not counted."""
        return self._native.weight_bytes

    @property
    def knobs(self) -> dict[str, tuple[Knob, ...]]:
        """By node what its operator can do in several ways, and which way was taken."""
        found = zip(self.graph.nodes, self._native.operators(), strict=True)
        return {node.name: tuple(Knob(n, tuple(w), c) for n, w, c in knobs) for node, (_, _, knobs) in found}

    def quick(self, x: object, *, reals: bool) -> Array | None:
        """The output of a network of one input and one output, by the shortest way; otherwise as ``run_reals``.

        Args:
            x: an input that can be read as it lies in memory.
            reals: float32 in or out; otherwise stored integers in and out.

        Returns:
            None where anything about the call is unusual or wrong: ``run`` and ``run_reals`` then do it, or say what.
        """
        return self._native.quick(x, self.threads, reals)

    def run(self, codes: Mapping[str, Array], threads: int | None = None) -> dict[str, Array]:
        """The graph's outputs.

        Args:
            codes: stored integers [batch, ...] of every graph input, within its lo..hi.
            threads: instead of the engine's own.

        Raises:
            RunError: names, shapes, dtypes or numbers of the inputs or the number of threads do not fit.
        """
        if threads is None and len(codes) == 1 and self._only_input in codes:
            result = self._native.quick(codes[self._only_input], self.threads, False)
            if result is not None:
                return {self._only_output: result}
        return self._run(codes, self.graph.outputs, threads)

    def run_reals(self, feeds: Mapping[str, Array], threads: int | None = None) -> dict[str, Array]:
        """The graph's outputs as float32 reals, ``scale * (q - zero_point)``; positions of argmax as int64.

        Args:
            feeds: of every graph input float32 reals, which become ``clamp(rint(x / scale) + zero_point, lo, hi)``, or
                stored integers in their storage, [batch, ...].
            threads: instead of the engine's own.

        Raises:
            RunError: as ``run``, or a real is not finite.
        """
        return self._run(feeds, self.graph.outputs, threads, reals=True)

    def run_all(self, codes: Mapping[str, Array], threads: int | None = None) -> dict[str, Array]:
        """Every value of the graph, inputs and intermediate ones included; otherwise as ``run``."""
        return self._run(codes, self._names, threads, keep=True)

    def profile(
        self, codes: Mapping[str, Array], repeats: int = 100, threads: int | None = None
    ) -> tuple[LayerProfile, ...]:
        """What each operator costs, measured inside the engine around it.

        Args:
            codes: as for ``run``; the first sample is taken.
            repeats: how often it runs, 1..100,000.
            threads: instead of the engine's own.

        Returns:
            By operator in execution order; before them taking the inputs, behind them giving the outputs.

        Raises:
            RunError: as for ``run``, or repeats is out of range.
        """
        from subbyte.runtime.profile import profile

        return profile(self.graph, self._native, codes, repeats, self.threads if threads is None else _threads(threads))

    def work(self) -> list[Work]:
        """What each operator has to do for one sample, in execution order; a measured ``Roof`` says how fast it can."""
        from subbyte.runtime.profile import network_work

        return network_work(self.graph, self._native)

    def _run(
        self,
        feeds: Mapping[str, Array],
        wanted: Sequence[str],
        threads: int | None,
        *,
        reals: bool = False,
        keep: bool = False,
    ) -> dict[str, Array]:
        count = self.threads if threads is None else _threads(threads)
        check_feeds(self.graph, feeds)
        codes = {n: feeds[n] for n in self.graph.inputs if not (reals and feeds[n].dtype == np.float32)}
        if any(array.dtype != _int_type(self.graph, name).storage for name, array in codes.items()):
            check_codes(self.graph, codes)  # whatever passes is cast without loss; of the storages the engine does it
        inputs = [
            np.require(feeds[n], _int_type(self.graph, n).storage if n in codes else np.float32, ["C", "A"])
            for n in self.graph.inputs
        ]
        try:
            results = self._native.run(inputs, count, reals, keep)
        except ValueError as error:
            for array in inputs:
                check_finite(array)
            raise RunError(
                str(error),
                "stored integers lie within what their input's format allows",
                "encode the input with its scale and zero point",
                f"graph {self.graph.name!r}",
            ) from None
        return dict(zip(wanted, results, strict=True))


def _threads(count: int) -> int:
    if type(count) is not int or not 0 <= count <= _native.MAX_THREADS:
        raise RunError(
            f"threads is {count!r}",
            f"threads is an integer in 0..{_native.MAX_THREADS}, where 0 means 1",
            "pass how many cores the run may use",
        )
    return max(count, 1)


def _check_isa() -> None:
    wanted, known = os.environ.get("SUBBYTE_ISA", ""), _native.available_isas()
    if wanted and wanted not in known:
        raise RunError(*unknown_name("instruction set of this CPU", wanted, known), "environment variable SUBBYTE_ISA")


def _family(wanted: str) -> str:
    forced, place = os.environ.get("SUBBYTE_FAMILY", ""), "argument family of Engine"
    if wanted == "auto" and forced:
        wanted, place = forced, "environment variable SUBBYTE_FAMILY"
    if wanted not in FAMILIES:
        raise RunError(*unknown_name("kernel family", wanted, FAMILIES), place)
    return wanted


def _int_type(graph: Graph, name: str) -> IntType:
    kind = graph.types[name]
    if not isinstance(kind, IntType):
        raise RunError(
            f"value {name!r} holds reals",
            "the native engine runs integer graphs",
            "lower the graph first",
            f"graph {graph.name!r}",
        )
    return kind


def _build(
    graph: Graph, names: Sequence[str], weights: str, choices: Mapping[str, Choice], family: str
) -> _native.Engine:
    builder = _native.Builder()
    index: dict[str, int] = {}
    for name in names:
        kind = _int_type(graph, name)
        shape = [int(d) for d in kind.shape[1:] if d is not None]
        table = kind.format.centred(kind.zero_point).tolist() if kind.format.coded else []
        index[name] = builder.value(name, shape, kind.storage, kind.zero_point, kind.lo, kind.hi, kind.scale, table)
    for node in graph.nodes:
        values = [index[i] for i in node.inputs if i in index]
        arrays = constant_arrays(node.op.name, _constants(graph, node))
        if isinstance(node.op, IntTrim):
            plain, arrays = trim_parts(node.op, _int_type(graph, node.inputs[0]).zero_point)
        else:
            plain = plan_attributes(node.op.name, attributes(node.op))
        chosen = dict(choices.get(node.name, {}))
        builder.op(node.op.name, node.name, values, index[node.output], plain, arrays, chosen)
    return builder.build([index[n] for n in graph.inputs], [index[n] for n in graph.outputs], weights, family)


def _constants(graph: Graph, node: Node) -> list[tuple[int, Constant]]:
    """The node's constant operands with their positions."""
    return [(i, graph.constants[name]) for i, name in enumerate(node.inputs) if name not in graph.types]


def _refused(message: str, graph: Graph) -> RunError:
    return RunError(
        message,
        "the native engine runs verified graphs of the integer dialect",
        "lower the model with quantize(); run subbyte.graph.verify on a graph of your own",
        f"graph {graph.name!r}",
    )
