"""What happens to a sample before the network sees it; given once and stored in the model file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.errors import DataError, unknown_name

_LAYOUTS = ("", "nhwc", "nchw", "nhwc->nchw", "nchw->nhwc")


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """``(x * scale - mean) / std`` per channel, in float32, then the change of layout.

    Attributes:
        layout: of the samples; ``nhwc->nchw`` and ``nchw->nhwc`` also transpose them. Image files are nhwc. Empty
            leaves it open, which per-channel constants do not allow.
        mean: one number, or one per channel.
        std: the same, positive.
        scale: e.g. 1/255 for images of bytes.

    Raises:
        DataError: at construction, for an unknown layout or numbers that are not finite or not positive.
    """

    layout: str = ""
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # lists from TOML or JSON, single numbers from the command line
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(map(float, [value] if np.ndim(value) == 0 else value)))
        if self.layout not in _LAYOUTS:
            raise DataError(*unknown_name("layout", self.layout, _LAYOUTS), "preprocess")
        numbers = (*self.mean, *self.std, self.scale)
        if not (self.mean and self.std and all(map(math.isfinite, numbers)) and min(self.std) > 0 and self.scale):
            raise DataError(
                f"mean {self.mean}, std {self.std}, scale {self.scale}",
                "they are finite, std is positive and scale is not 0",
                "correct the preprocessing",
                "preprocess",
            )
        if not self.layout and max(len(self.mean), len(self.std)) > 1:
            raise DataError(
                "mean or std has several numbers, layout is empty",
                "constants per channel need to know which axis holds the channels",
                "set layout to nhwc, nchw, nhwc->nchw or nchw->nhwc",
                "preprocess",
            )

    def __call__(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """One batch of samples of any numeric dtype, batch axis first; float32, no longer connected to the argument.

        Raises:
            DataError: the batch's rank or number of channels does not fit.
        """
        first = self.layout.startswith("nchw")
        x = batch.astype(np.float32) * np.float32(self.scale)
        if self.layout and x.ndim < 3:
            raise self._misfit(batch, f"layout {self.layout} speaks of a batch axis, a channel axis and places")
        x = (x - self._constant(self.mean, x, first)) / self._constant(self.std, x, first)
        if "->" in self.layout:
            x = np.moveaxis(x, 1 if first else -1, -1 if first else 1)
        return np.ascontiguousarray(x, dtype=np.float32)

    def _constant(self, values: tuple[float, ...], x: npt.NDArray[Any], first: bool) -> npt.NDArray[np.float32]:
        array = np.array(values, np.float32)
        if array.size == 1:
            return array
        if array.size != x.shape[1 if first else -1]:
            raise self._misfit(x, f"{array.size} constants need {array.size} channels in layout {self.layout}")
        return array.reshape([-1] + [1] * (x.ndim - 2)) if first else array

    def _misfit(self, x: npt.NDArray[Any], rule: str) -> DataError:
        return DataError(f"a batch has the shape {list(x.shape)}", rule, "correct the layout or the data", "preprocess")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocess:
        """The inverse of ``to_dict``; DataError on unknown keys."""
        known = [f.name for f in fields(cls)]
        for key in values:
            if key not in known:
                raise DataError(*unknown_name("key of preprocess", key, known), "preprocess")
        return cls(**values)
