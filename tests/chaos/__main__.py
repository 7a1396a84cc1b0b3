"""`python -m tests.chaos`: kill agent, launcher, containers and control plane at random while pods count.

    python -m tests.chaos --minutes 30 --pods 200 [--seed N]

Each pod counts in a volume and in its log. Every second or so something is killed with SIGKILL, and started
again. At the end no counter may have gone back, no number may have been said twice or be missing, and no pod
may have a status that its containers' own records contradict. The seed is printed: with the same one, the
same things are killed in the same order.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.checks import check_numbers, check_status, numbers
from tests.chaos.world import World
from vkubelet.dev import build
from vkubelet.dev.layout import DevError, default_cache
from vkubelet.dev.report import Report

WEIGHTS = {"kill_agent": 4, "kill_launcher": 4, "kill_container": 10, "kill_cluster": 1}
PAUSE = 2.0
"""Seconds between two kills, at most."""
SETTLED_SECONDS = 150.0
"""For the last back-off of a container to be over, and a node to be back."""


@dataclasses.dataclass
class Outcome:
    """What was done, and what is wrong."""

    done: dict[str, int]
    counted: int
    settled: float
    wrong: list[str]


def run(program: Path, minutes: float, pods: int, seed: int, kept: Path | None = None) -> Outcome:
    """Have it happen, in a directory of its own; the agents' log is `kept` if something is wrong."""
    chance = random.Random(seed)  # noqa: S311  to be the same again
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        world = World(program, Path(directory), pods, chance)
        with world.living():
            deadline = time.monotonic() + minutes * 60
            while time.monotonic() < deadline:
                (action,) = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
                getattr(world, action)()
                time.sleep(PAUSE * chance.random())
                world.supervise()
                world.look()
            began = time.monotonic()
            wrong = _settled(world)
            took = time.monotonic() - began
            world.look()
            wrong += world.trouble
            wrong += [text for counted in world.counted.values() for text in counted.wrong]
            wrong += ["a traceback in the agent's log"] * ("Traceback" in world.agent_log)
            if wrong and kept is not None:
                kept.write_text(f"{world.agent_log}\n{world.attempts()}")
        return Outcome(dict(world.done), sum(each.value for each in world.counted.values()), took, wrong)


def _settled(world: World) -> list[str]:
    """Wait until nothing is wrong with any pod; what still is after a while."""
    deadline = time.monotonic() + SETTLED_SECONDS
    while True:
        world.supervise()
        try:
            wrong = _wrong(world)
        except DevError as error:
            wrong = [str(error)]
        if not wrong or time.monotonic() > deadline:
            return wrong
        time.sleep(1.0)


def _wrong(world: World) -> list[str]:
    found = {pod["metadata"]["name"]: pod for pod in world.pods()}
    wrong = [f"{name}: it is not there" for name in world.counted.keys() - found.keys()]
    for name, pod in found.items():
        wrong += check_status(pod, world.containers, world.kills[name])
        # The log first: the counter goes on.
        said = numbers(world.log(name))
        world.look()
        counted = world.counted[name]
        wrong += check_numbers(name, said, min(counted.value, said[-1] + 1) if said else 0, world.kills[name])
    return wrong


def main() -> int:
    """The exit code is 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--pods", type=int, default=200)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    parser.add_argument("--log", type=Path, help="where the agents' log goes if something is wrong")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    program = build.cluster_binary(default_cache(), Report())
    outcome = run(program, options.minutes, options.pods, options.seed, options.log)
    killed = ", ".join(f"{what} {count} times" for what, count in sorted(outcome.done.items()))
    print(f"{options.pods} pods, {options.minutes:g} minutes; killed: {killed}")
    print(
        f"counted to {outcome.counted} in all; all was as it must be {outcome.settled:.0f} s after the last"
    )
    for text in outcome.wrong:
        print(f"wrong: {text}")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
