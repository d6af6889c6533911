"""CPU benchmarks: one command per question.

    python -m benchmarks.cpu nets            # whole networks, one thread, against LiteRT, ONNX Runtime and OpenVINO
    python -m benchmarks.cpu layers          # six convolutions
    python -m benchmarks.cpu gemm            # matrix products by M, shape and weight bits
    python -m benchmarks.cpu formats         # one large product in every family of formats
    python -m benchmarks.cpu floor           # what a call costs
    python -m benchmarks.cpu threads         # two threads
    python -m benchmarks.cpu load            # from file to engine
    python -m benchmarks.cpu nets_avx2       # networks where everything that can be is held to AVX2
    python -m benchmarks.cpu layers_avx2
    python -m benchmarks.cpu formats_avx2
    python -m benchmarks.cpu neon            # instructions of the inner loops for 64-bit ARM, counted
    python -m benchmarks.cpu page            # docs/results/cpu.md from benchmarks/results/cpu_*.json
    python -m benchmarks.cpu all             # all of them, each in a process of its own, then the page

``--quick``: fewer rounds and cases, results in build/bench/quick; ``--only NAME ...``: these cases, also there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

QUESTIONS = (
    *("nets", "layers", "gemm", "formats", "floor", "threads", "load"),
    *("nets_avx2", "layers_avx2", "formats_avx2", "neon"),
)
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
ENVIRONMENT["SUBBYTE_TUNE"] = "off"  # figures of the engine's own rules, not of what this machine remembers
AVX2_ENVIRONMENT = {"SUBBYTE_ISA": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def _ask(question: str, *, quick: bool, only: list[str]) -> None:
    avx2 = question.endswith("_avx2")
    os.environ.update(ENVIRONMENT | (AVX2_ENVIRONMENT if avx2 else {}))  # before any runtime is loaded
    from benchmarks.cpu import question_calls, question_layers, question_neon, question_nets
    from benchmarks.cpu.report import Report, Settings

    answers = {
        "nets": question_nets.nets,
        "layers": question_layers.layers,
        "gemm": question_layers.gemm,
        "formats": question_layers.formats,
        "floor": question_calls.floor,
        "threads": question_calls.threads,
        "load": question_calls.load,
        "neon": question_neon.neon,
    }
    report = Report(question, Settings(quick=quick, avx2=avx2, only=tuple(only)))
    answers[question.removesuffix("_avx2")](report)
    print(f"wrote {report.finish()}")


def main() -> int:
    """Ask one question, or all of them; 1 if one of them fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=(*QUESTIONS, "page", "all"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    args = parser.parse_args()
    if args.question == "all":
        more = ["--quick"] if args.quick else []
        command = [sys.executable, "-m", "benchmarks.cpu"]
        failed = [q for q in QUESTIONS if subprocess.run([*command, q, *more], check=False).returncode]
        if not args.quick and not failed:
            failed = ["page"] * bool(subprocess.run([*command, "page"], check=False).returncode)
        print("failed: " + ", ".join(failed) if failed else "all answered")
        return bool(failed)
    if args.question == "page":
        from benchmarks.cpu.page import write_page

        print(f"wrote {write_page()}")
        return 0
    _ask(args.question, quick=args.quick, only=args.only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
