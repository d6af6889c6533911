"""The character model of the shared data (Llama style, 0.8 M parameters); something else may compute its linear layers.

A part is what lies between two operators that stay in float here (norms, rotary embedding, attention's softmax): the
three projections in front of attention as one matrix, the one behind it, a feed-forward block with its SiLU, and the
output. All of them multiply rows: a token each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import subbyte as sb
from benchmarks.nets import data_folder, loaders

CONTEXT = 128
Parts: TypeAlias = Mapping[str, Callable[[Tensor], Tensor]]


class FeedForward(nn.Module):
    """``w2(silu(w1 x) * w3 x)`` without biases."""

    def __init__(self, w1: Tensor, w2: Tensor, w3: Tensor) -> None:
        super().__init__()
        self.up, self.down, self.gate = linear(w3), linear(w2), linear(w1)

    def forward(self, x: Tensor) -> Tensor:
        """Rows [..., dim] to rows [..., dim]."""
        return self.down(functional.silu(self.gate(x)) * self.up(x))  # type: ignore[no-any-return]


def linear(weight: Tensor) -> nn.Linear:
    """A linear layer of these weights, without bias."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    made.weight = nn.Parameter(weight, requires_grad=False)
    return made


class Shakespeare:
    """The float model; ``parts`` are its modules by name."""

    def __init__(self) -> None:
        from safetensors import safe_open

        path: Path = data_folder() / "models" / "shakespeare_llama_char.safetensors"
        with safe_open(path, "pt") as file:
            facts = file.metadata()
            names = list(file.keys())
            self.weights = {name: file.get_tensor(name) for name in names}
        self.heads, self.layers, self.vocabulary = int(facts["heads"]), int(facts["layers"]), facts["vocab"]
        self.parts: dict[str, nn.Module] = {"output": linear(self.weights["output.weight"])}
        for i in range(self.layers):
            w = {key: self.weights[f"layers.{i}.{key}.weight"] for key in ("wq", "wk", "wv", "wo", "w1", "w2", "w3")}
            self.parts[f"layers.{i}.qkv"] = linear(torch.cat([w["wq"], w["wk"], w["wv"]]))
            self.parts[f"layers.{i}.o"] = linear(w["wo"])
            self.parts[f"layers.{i}.ffn"] = FeedForward(w["w1"], w["w2"], w["w3"])

    def graphs(self) -> dict[str, sb.Graph]:
        """Every part as a float graph of samples [CONTEXT, inputs]."""
        widths = {name: next(p for p in part.parameters()).shape[1] for name, part in self.parts.items()}
        return {n: sb.trace(part.eval(), (torch.zeros(1, CONTEXT, widths[n]),)) for n, part in self.parts.items()}

    def windows(self, count: int, validation: bool) -> Tensor:
        """Characters [count, CONTEXT + 1], evenly spread over the last tenth of the text, or over the rest."""
        text = loaders().text("tinyshakespeare")
        split = len(text) * 9 // 10
        place = {c: i for i, c in enumerate(self.vocabulary)}
        codes = torch.tensor([place[c] for c in (text[split:] if validation else text[:split])])
        starts = np.linspace(0, len(codes) - CONTEXT - 1, count).astype(int)
        return torch.stack([codes[s : s + CONTEXT + 1] for s in starts])

    def logits(self, codes: Tensor, parts: Parts) -> Tensor:
        """Scores [N, T, vocabulary] of characters [N, T], through the given parts."""
        x = functional.embedding(codes, self.weights["tok.weight"])
        count, length, dim = x.shape
        turn = rotation(length, dim // self.heads)
        for i in range(self.layers):
            rows = parts[f"layers.{i}.qkv"](self._norm(x, f"layers.{i}.attention_norm"))
            q, k, v = (y.view(count, length, self.heads, -1).transpose(1, 2) for y in torch.split(rows, dim, dim=-1))
            seen = functional.scaled_dot_product_attention(rotated(q, turn), rotated(k, turn), v, is_causal=True)
            x = x + parts[f"layers.{i}.o"](seen.transpose(1, 2).reshape(count, length, dim))
            x = x + parts[f"layers.{i}.ffn"](self._norm(x, f"layers.{i}.ffn_norm"))
        return parts["output"](self._norm(x, "norm"))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return functional.rms_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], eps=1e-5)


def rotation(length: int, dim: int) -> Tensor:
    """Unit complex numbers [length, dim / 2] of the rotary embedding."""
    angle = torch.outer(torch.arange(length), 10000.0 ** (-torch.arange(0, dim, 2) / dim))
    return torch.polar(torch.ones_like(angle), angle)


def rotated(x: Tensor, turn: Tensor) -> Tensor:
    """Pairs of neighbouring numbers turned by their position."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turn).flatten(-2)


def perplexity(logits: Tensor, codes: Tensor) -> float:
    """Of windows [N, T + 1] under scores [N, T, vocabulary]."""
    return float(functional.cross_entropy(logits.flatten(0, 1), codes[:, 1:].flatten()).exp())
