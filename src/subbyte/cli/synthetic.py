"""``--data synthetic``: samples from the network's batch norms instead of a path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from subbyte.errors import SubbyteError

if TYPE_CHECKING:
    from subbyte.cli.output import Progress
    from subbyte.graph.ir import Graph
    from subbyte.ingest.data import Preprocess

WORD = "synthetic"


def is_synthetic(data: Path) -> bool:
    """Whether ``--data`` asks for synthetic samples."""
    return method(data) is not None


def method(data: Path) -> str | None:
    """The method that ``--data`` asks for, ``kl`` if it names none; None for a path.

    Raises:
        SubbyteError: there is a file or folder of that very name.
    """
    word, colon, name = str(data).partition(":")
    if word != WORD:
        return None
    if data.exists():
        rule = f"{WORD} stands for samples that are synthesized, and there is a file or folder of that name"
        remedy = f"give the absolute path of the data, or rename it to have {WORD} samples"
        raise SubbyteError(f"--data {str(data)!r}", rule, remedy, "command line")
    return name if colon else "kl"


def samples_of(
    data: Path, graph: Graph, domain: str, samples: int, seed: int, preprocess: Preprocess | None, report: Progress
) -> Any:
    """What ``--data`` stands for: synthetic samples, or the path as it is.

    Raises:
        SubbyteError: the domain is no pair of numbers or is given beside a path; the network keeps no statistics.
    """
    name = method(data)
    if name is None:
        if domain:
            seen = f"--domain {domain!r} beside --data {str(data)!r}"
            raise SubbyteError(seen, "--domain is for synthetic samples", "leave it out", "command line")
        return data
    from subbyte.zeroshot.synthesize import synthesize

    return synthesize(
        graph,
        method=name,
        domain=_interval(domain),
        preprocess=preprocess,
        samples=samples,
        seed=seed,
        progress=report,
    )


def _interval(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        rule = "--domain is two numbers, the smallest and the largest of a sample, such as 0,255"
        raise SubbyteError(f"--domain {text!r}", rule, "correct --domain", "command line") from None
    return low, high
