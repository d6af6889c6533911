"""``python -m subbyte`` is the command line."""

import sys

from subbyte.cli import main

sys.exit(main())
