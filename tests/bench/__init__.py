"""What vkubelet costs, as ratios against a peer or a floor that was measured in the same run.

Absolute numbers are the machine's and the hour's; they stand beside. `python -m tests.bench --help`.
"""
