"""How far a quantized network's answers and inner values are from the float network's, differentiably."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch.nn import functional

from subbyte.graph.answer import Answer, find_answer
from subbyte.graph.ir import Graph
from subbyte.graph.ops.add import Add, Sub
from subbyte.graph.ops.mul import Mul
from subbyte.quantization.parts import Scaling

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.quantization.learning import Learning

    Values = Mapping[str, Tensor]


def answers(graph: Graph) -> Sequence[Answer]:
    """The scores behind every output, each once."""
    return list(dict.fromkeys(find_answer(graph, output) for output in graph.outputs))


def feature_values(graph: Graph) -> Sequence[str]:
    """Results of layers, sums and products, but for the answers themselves."""
    known = {a.value for a in answers(graph)}
    return [n.output for n in graph if isinstance(n.op, Scaling | Add | Sub | Mul) and n.output not in known]


def divergence(got: Tensor, want: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean over samples of KL(float || quantized) in nats of scores [samples, ...] divided by the temperature."""
    p, q = (functional.log_softmax(x.flatten(1) / temperature, dim=1) for x in (want, got))
    return (p.exp() * (p - q)).sum(dim=1).mean()


def relative_error(got: Tensor, want: Tensor) -> Tensor:
    """Squared error over the variance of what is wanted."""
    return (got - want).square().mean() / want.var(correction=0).clamp_min(1e-12)


def answer_loss(found: Sequence[Answer], got: Values, want: Values) -> Tensor:
    """By which states are compared: divergence of classes, relative squared error of reals, summed over outputs."""
    parts = [(divergence if a.kind == "classes" else relative_error)(got[a.value], want[a.value]) for a in found]
    return sum(parts[1:], start=parts[0])


def learning_loss(
    found: Sequence[Answer], features: Sequence[str], got: Values, want: Values, settings: Learning
) -> Tensor:
    """What is learned: softened divergence, matching scores, and inner values that stay near the float ones."""
    parts: list[Tensor] = []
    soft = settings.temperature
    for a in found:
        error = relative_error(got[a.value], want[a.value])
        if a.kind == "classes":
            parts.append(divergence(got[a.value], want[a.value], soft) * soft * soft + settings.match * error)
        else:
            parts.append(error)
    if features and settings.features:
        inner = [relative_error(got[v], want[v]) for v in features]
        parts.append(settings.features / len(inner) * sum(inner[1:], start=inner[0]))
    return sum(parts[1:], start=parts[0])
