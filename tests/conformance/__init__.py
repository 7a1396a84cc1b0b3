"""Kubernetes' own e2e specs for nodes, run against a node of this repository."""

import sys
from pathlib import Path

# What tests share is importable by its bare names, as pytest's `pythonpath` makes it for them.
sys.path.append(str(Path(__file__).parents[1] / "support"))
