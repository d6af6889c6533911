"""How far the statistics of a batch are from those that a batch norm keeps; one function per form, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    Loss: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

SOFT = 1e-3
"""Share of the kept variance that is added to both variances, so that a channel which is constant in one batch has a
finite distance with a usable gradient. Equal statistics still have the distance 0."""


def kl(mean: Tensor, var: Tensor, kept_mean: Tensor, kept_var: Tensor) -> Tensor:
    """Kullback-Leibler divergence of two Gaussians, kept from seen, mean over channels, in nats.

    Args:
        mean: of each channel of the batch, [C].
        var: of the same.
        kept_mean: of the batch norm.
        kept_var: of the same, positive.

    Source: Kim et al. 2021 (Q-ASR, arXiv 2103.16827), section 3.2.
    """
    seen, kept = var + SOFT * kept_var, (1 + SOFT) * kept_var
    terms = (seen / kept).log() / 2 + (kept + (mean - kept_mean).square()) / (2 * seen) - 0.5
    return terms.mean()


def l2(mean: Tensor, var: Tensor, kept_mean: Tensor, kept_var: Tensor) -> Tensor:
    """Squared differences of means and of standard deviations, mean over channels; in units of the values, squared.

    Source: Cai et al. 2020 (ZeroQ, arXiv 2001.00281), equation 3.
    """
    seen, kept = (var + SOFT * kept_var).sqrt(), ((1 + SOFT) * kept_var).sqrt()
    return ((mean - kept_mean).square() + (seen - kept).square()).mean()


LOSSES: dict[str, Loss] = {"kl": kl, "l2": l2}
