"""vkubelet whose containers are restarted after a second at most, for runs with thousands of restarts.

It looks for unused images as often, which it first does after minutes, and notes then when each was used. Run
as a module it is `vkubelet` in all else. The node has no options for these.
"""

from __future__ import annotations

from vkubelet.cli import main
from vkubelet.pods import backoff, garbage

if __name__ == "__main__":
    backoff.INITIAL = backoff.MAXIMUM = garbage.PERIOD = 1.0
    main()
