"""What vkubelet costs, as ratios against a peer or a floor that was measured in the same run.

Absolute numbers are the machine's and the hour's; they stand beside. `python -m tests.bench --help`.
"""

import sys
from pathlib import Path

# What tests share is importable by its bare names, as pytest's `pythonpath` makes it for them.
sys.path.append(str(Path(__file__).parents[1] / "support"))
