"""AdaRound layer by layer, and block reconstruction with learned steps, behind the already quantized prefix.

Sources: Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization" (ICML), asymmetric
reconstruction with the activation in the loss (section 3.5); Li et al. 2021, "BRECQ: Pushing the Limit of Post-Training
Quantization by Block Reconstruction" (ICLR), algorithm 1, with plain squared error in place of the Fisher weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from subbyte.distill.blocks import Block, cut_blocks, single_layers
from subbyte.distill.distillation import cosine, require_finite
from subbyte.distill.journal import BlockJournal, fingerprint
from subbyte.distill.losses import relative_error
from subbyte.distill.samples import Feeds, require
from subbyte.distill.softround import SoftKernel
from subbyte.distill.student import Student
from subbyte.graph.torch_executor import FloatExecutor
from subbyte.quantization.calibrate import Progress
from subbyte.quantization.layers import LayerWeights
from subbyte.quantization.scheme import Scheme

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.quantization.learning import Learning

CHUNK = 32
"""Samples run at once outside learning."""

WARM_UP = 0.2
"""Share of the steps before choices are driven to 0 or 1."""

BETA = (20.0, 2.0)
"""Exponent of the regularizer: from flat, so that choices near 1/2 are free, to steep."""

PRESSURE = 0.1
"""Of the regularizer for each weight, beside a relative error of 1 for each result."""

CHOICE_RATE = 0.05
STEP_RATE = 0.01


def adaround(
    scheme: Scheme, layers: Mapping[str, LayerWeights], feeds: Feeds, settings: Learning, seed: int, progress: Progress
) -> tuple[Scheme, dict[str, LayerWeights]]:
    """Each weight goes to one of its two neighbours, layer by layer, so that the layer's result stays near.

    Args:
        scheme: the quantized network.
        layers: its weights; scales and biases stay.
        feeds: float32 samples by input name, without labels.
        settings: of learning.
        seed: of the order of samples.
        progress: called after every node.

    Raises:
        DataError: there are too few samples, or a loss is not finite.
        SubbyteError: the journal cannot be used.
    """
    student = Student(scheme, layers, settings.device, SoftKernel)
    run = _Reconstruction("adaround", student, layers, feeds, settings, seed)
    return run.all(single_layers(scheme.graph), progress)


def block_reconstruction(
    scheme: Scheme, layers: Mapping[str, LayerWeights], feeds: Feeds, settings: Learning, seed: int, progress: Progress
) -> tuple[Scheme, dict[str, LayerWeights]]:
    """AdaRound of all layers of a block together, with the steps of its activations; see ``adaround``."""
    student = Student(scheme, layers, settings.device, SoftKernel)
    run = _Reconstruction("block_reconstruction", student, layers, feeds, settings, seed)
    return run.all(cut_blocks(scheme.graph), progress)


class _Reconstruction:
    """The walk: float and quantized values of all samples, as long as somebody still reads them."""

    def __init__(
        self,
        method: str,
        student: Student,
        layers: Mapping[str, LayerWeights],
        feeds: Feeds,
        settings: Learning,
        seed: int,
    ) -> None:
        require(feeds)
        self.method, self.student, self.settings, self.seed = method, student, settings, seed
        self.by_block = method == "block_reconstruction"  # with steps, and values as they are stored
        self.graph = student.graph
        self.teacher = FloatExecutor(student.graph, settings.device)
        self.journal = BlockJournal(
            settings.journal, method, fingerprint(method, student.scheme, layers, feeds, settings, seed)
        )
        for p in student.parameters():
            p.requires_grad_(False)
        self.exact = {n: torch.tensor(np.asarray(x, np.float32), device=settings.device) for n, x in feeds.items()}
        with torch.no_grad():
            self.coarse = student.feed(self.exact)
        self.owned = {student.stored_key(n) for n in feeds}

    def all(self, blocks: Sequence[Block], progress: Progress) -> tuple[Scheme, dict[str, LayerWeights]]:
        """Every block in turn."""
        last_use = {i: k for k, b in enumerate(blocks) for n in b.nodes for i in n.inputs}
        for k, block in enumerate(blocks):
            self._block(k, block)
            for name in [v for v in self.exact if last_use.get(v, -1) <= k]:
                del self.exact[name], self.coarse[name]
            progress(self.method.replace("_", " "), k + 1, len(blocks))
        return self.student.result()

    def _block(self, number: int, block: Block) -> None:
        with torch.no_grad():
            exact = self._through(block, exact=True)
        kernels = [k for n in block.layers if isinstance(k := self.student.kernels[n.name], SoftKernel)]
        keys = self._new_keys(block) if self.by_block else []
        steps = [self.student.growth[key] for key in keys if key in self.student.growth]
        parameters = [*(k.choice for k in kernels), *steps]
        if kernels:
            found = self.journal.get(number)
            if found is None:
                self._learn(number, block, kernels, steps, exact[block.target])
                self.journal.record(number, [p.detach().cpu().numpy() for p in parameters])
            else:
                for p, kept in zip(parameters, found, strict=True):
                    p.data.copy_(torch.from_numpy(kept))
        for k in kernels:
            k.hard = True
        self.owned |= set(self._new_keys(block))
        with torch.no_grad():
            self.coarse |= self._through(block, exact=False)
        self.exact |= exact

    def _new_keys(self, block: Block) -> list[tuple[str, str]]:
        """Slots that this block is the first to round to; later blocks take their steps as they are."""
        student = self.student
        keys = [student.stored_key(n.output) for n in block.nodes]
        keys += [student.operand_key(n, v) for n in block.nodes for v in self.graph.activations(n)]
        return [key for key in dict.fromkeys(keys) if key not in self.owned]

    def _through(self, block: Block, exact: bool) -> dict[str, Tensor]:
        """All values of a block for all samples, chunk by chunk."""
        source, runner = (self.exact, self.teacher) if exact else (self.coarse, self.student)
        inside: dict[str, list[Tensor]] = {n.output: [] for n in block.nodes}
        count = len(next(iter(source.values())))
        for first in range(0, count, CHUNK):
            env = {v: x[first : first + CHUNK] for v, x in source.items()}
            for node in block.nodes:
                env[node.output] = runner.step(node, env)
                inside[node.output].append(env[node.output])
        return {v: torch.cat(parts) for v, parts in inside.items()}

    def _learn(
        self, number: int, block: Block, kernels: Sequence[SoftKernel], steps: Sequence[Tensor], wanted: Tensor
    ) -> None:
        settings = self.settings
        parameters = [*(k.choice for k in kernels), *steps]
        for p in parameters:
            p.requires_grad_(True)
        groups = [{"params": parameters[: len(kernels)], "lr": CHOICE_RATE}]
        if steps:
            groups.append({"params": list(steps), "lr": STEP_RATE})
        optimizer = torch.optim.Adam(groups)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        weights, total = sum(k.choice.numel() for k in kernels), settings.layer_steps
        for step in range(total):
            picked = torch.randint(0, len(wanted), (min(settings.batch_size, len(wanted)),), generator=generator)
            loss = relative_error(self._result(block, picked), wanted[picked])
            require_finite(loss, step, f"{self.method}, {block.nodes[-1].name}")
            done = step / total
            if done >= WARM_UP:
                late = (done - WARM_UP) / (1 - WARM_UP)
                beta = BETA[1] + (BETA[0] - BETA[1]) * cosine(late)
                loss = loss + PRESSURE / weights * sum((k.undecided(beta) for k in kernels), start=torch.zeros(()))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        for p in parameters:
            p.requires_grad_(False)

    def _result(self, block: Block, picked: Tensor) -> Tensor:
        """The block's result; AdaRound sees a layer's before it is stored, with its activation."""
        env = {v: x[picked] for v, x in self.coarse.items()}
        for node in block.nodes:
            env[node.output] = self.student.step(node, env, stored=self.by_block)
        return env[block.target]
