"""What is the same for every runtime: how a run's steps are cut into iterations and calls, and what its state takes."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import jax
import numpy as np

from ludus.core.algorithm import Remembers
from ludus.core.errors import UsageError
from ludus.runtime.cast import Opposition
from ludus.runtime.setup import free_memory


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

    @property
    def shapes(self) -> Any:
        """The shapes of the state of training, as for restoring one; nothing is computed."""
        raise NotImplementedError

    @cached_property
    def bytes(self) -> dict[str, int]:
        """What the states of all seeds take: the learners' experience (replays), and everything."""
        size = lambda tree: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
        kept = self.shapes.learner.per_env if isinstance(self.algorithm, Remembers) else ()
        return {"experience": size(kept), "all": size(self.shapes)}

    def check_memory(self) -> None:
        """Raise `UsageError` where the states of all seeds do not fit into memory."""
        free = free_memory()
        if free is not None and self.bytes["all"] > free:
            gib = 2.0**30
            raise UsageError(
                f"training needs {self.bytes['all'] / gib:.1f} GiB, {self.bytes['experience'] / gib:.1f} GiB of them "
                f"for experience, and {free / gib:.1f} GiB are free; take less capacity, environments or seeds"
            )

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
