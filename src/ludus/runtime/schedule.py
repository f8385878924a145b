"""How a run's steps are cut into iterations and calls: the same for every runtime."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ludus.runtime.cast import Opposition


class Schedule:
    """Fields are those of a program beside it."""

    algorithm: Any
    num_envs: int
    steps: int
    steps_a_call = 2048  # short iterations run several to a call, so that the host does not set the pace

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of one iteration of one seed."""
        return int(self.num_envs * self.algorithm.rollout_length)

    @property
    def iterations_per_call(self) -> int:
        """Iterations of one call of the program."""
        planned = math.ceil(self.steps / self.steps_per_iteration)
        return min(planned, max(1, self.steps_a_call // self.steps_per_iteration))

    @property
    def calls(self) -> int:
        """Calls that make up the whole run: at least the planned steps."""
        return math.ceil(self.steps / (self.steps_per_iteration * self.iterations_per_call))

    @property
    def steps_per_call(self) -> int:
        """Environment steps of one call, of one seed."""
        return self.steps_per_iteration * self.iterations_per_call

    def progress(self, iteration: int, against: Opposition | None) -> float:
        """The share of the planned steps taken before an iteration; of a league's plan, where there is one."""
        share = iteration / (self.calls * self.iterations_per_call)
        if against is None:
            return share
        begin, end = np.asarray(against.matches.progress[0])
        return float(begin + (end - begin) * share)

    def prepare(self) -> None:
        """What must be done by the main thread, before `compile`: here, nothing."""

    def close(self) -> None:
        """Give back what is held outside this process: here, nothing."""

    def rest(self) -> None:
        """Be idle until the next `compile`, with no more held outside this process than is worth it."""
        self.close()

    def facts(self) -> dict[str, Any]:
        """What else is worth writing down at the end of a run: here, nothing."""
        return {}

    def fetch(self, state: Any) -> Any:
        """A state with its arrays in this process: here, as it is."""
        return state
