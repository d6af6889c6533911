"""Unlabelled samples for learning: a part that is held out, batches in a seeded order, mixtures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from subbyte.errors import DataError
from subbyte.quantization.learning import LEAST

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.quantization.learning import Learning

Feeds = Mapping[str, npt.NDArray[np.float32]]


def require(feeds: Feeds) -> int:
    """How many samples there are.

    Raises:
        DataError: fewer than ``LEAST``.
    """
    count = len(next(iter(feeds.values())))
    if count < LEAST:
        raise DataError(
            f"{count} calibration samples are to be learned from",
            f"learned methods need at least {LEAST}, and hundreds to be worth their time: they overfit few",
            "give more unlabelled samples, or leave distill, adaround and block_reconstruction out of the methods",
            "calibration data",
        )
    return count


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Samples by input name, on the device where learning runs.

    Attributes:
        learned: from which gradients come.
        held_out: by which states are compared.
    """

    learned: dict[str, Tensor]
    held_out: dict[str, Tensor]

    @classmethod
    def split(cls, feeds: Feeds, settings: Learning) -> Samples:
        """The last samples are held out; calibration data comes in a seeded random order.

        Raises:
            DataError: there are fewer than ``LEAST`` samples.
        """
        count = require(feeds)
        rest = settings.learned(count)
        put = {n: torch.tensor(np.asarray(x, np.float32), device=settings.device) for n, x in feeds.items()}
        return cls(learned={n: x[:rest] for n, x in put.items()}, held_out={n: x[rest:] for n, x in put.items()})

    @property
    def count(self) -> int:
        """Learned samples."""
        return len(next(iter(self.learned.values())))

    def batches(self, settings: Learning, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
        """Endless batches: every sample once before any comes again; some are mixed with another.

        Mixtures are ``a x + (1 - a) x'``, a uniform (after Zhang et al. 2018, "mixup"): the float network answers for
        them as for any input, so a few samples become many.
        """
        size = min(settings.batch_size, self.count)
        while True:
            order = torch.randperm(self.count, generator=generator)
            for first in range(0, self.count - size + 1, size):
                picked = order[first : first + size]
                other = torch.randint(0, self.count, (size,), generator=generator)
                mixed = torch.rand(size, generator=generator) < settings.blend
                share = torch.where(mixed, torch.rand(size, generator=generator), torch.ones(()))
                yield {n: _mix(x[picked], x[other], share.to(x.device)) for n, x in self.learned.items()}


def _mix(x: Tensor, other: Tensor, share: Tensor) -> Tensor:
    part = share.reshape(-1, *(1,) * (x.ndim - 1))
    return part * x + (1 - part) * other
