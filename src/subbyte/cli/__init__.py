"""The command line: ``subbyte VERB``; one verb, one file. Entry point: ``main``."""

from subbyte.cli.app import main

__all__ = ["main"]
