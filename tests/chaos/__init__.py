"""Everything is killed at random while pods count: see __main__."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
