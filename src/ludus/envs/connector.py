"""Connector (Bonnet et al. 2024, Jumanji): each agent draws a path to its target and must not cross another's.

`connector/10x10-10a`: grid and agents; boards are Jumanji's random walks, so every one can be solved.

An agent observes the whole grid, bool, (height, width, 7), one channel for each kind of cell: empty; its own path,
head, target; another agent's path, head, target. This is Jumanji's grid from each agent's side, in which the other
agents are not told apart; the step count is not shown. An agent is paid for its own connection (1) and fined for
every step that it begins unconnected (0.03). Agents that are connected or blocked do not act. When none is left the
episode terminates, also in the last step; the time limit is a truncation. Chance is in the board only.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key
from jumanji.environments.routing.connector.env import Connector as JumanjiConnector
from jumanji.environments.routing.connector.generator import RandomWalkGenerator
from jumanji.types import TimeStep as JumanjiTimeStep

from ludus.core.errors import UsageError
from ludus.core.game import TimeStep
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GameSpec, GroupSpec

NAMES = ("5x5-3a", "6x6-3a", "7x7-5a", "8x8-5a", "10x10-5a", "10x10-10a", "15x15-23a")
_KINDS = 7


def perspectives(grid: Int[Array, "row column"], agents: int) -> Bool[Array, "{agents} row column 7"]:
    """Jumanji's grid as every agent sees it: 0 is empty; 3 i + 1, 2, 3 are agent i's path, head and target."""
    owner, kind = jnp.divmod(grid - 1, 3)
    other = owner != jnp.arange(agents)[:, None, None]
    cell = jnp.where(grid == 0, 0, 1 + kind + 3 * other)
    return jax.nn.one_hot(cell, _KINDS, dtype=bool)


class Connector:
    """One board size."""

    def __init__(self, name: str, time_limit: int):
        if time_limit < 1:
            raise UsageError(f"time_limit must be at least 1, not {time_limit}")
        board, agents_ = name.split("-")
        size, agents = int(board.split("x")[0]), int(agents_.removesuffix("a"))
        self.suite = JumanjiConnector(RandomWalkGenerator(size, agents), time_limit=time_limit)
        group = GroupSpec(
            "connectors",
            agents,
            Box((size, size, _KINDS), 0.0, 1.0),
            Discrete(5),
            "team",
            slots=agents,
            masked=True,
        )
        self.spec = GameSpec(
            f"connector/{name}", (group,), "general-sum", symmetric=True, horizon=time_limit, truncates=True
        )

    def _show(self, shown: JumanjiTimeStep) -> TimeStep:
        legal = shown.observation.action_mask
        # Jumanji tells the two ends apart by the discount: none for any agent after a termination
        terminated = shown.last() & jnp.all(shown.discount == 0)
        return TimeStep(
            observation={"connectors": perspectives(shown.observation.grid, self.suite.num_agents)},
            legal={"connectors": legal},
            acting={"connectors": legal[:, 1:].any(-1)},  # the first action is to stay
            reward={"connectors": jnp.asarray(shown.reward, jnp.float32)},
            terminated=terminated,
            truncated=shown.last() & ~terminated,
        )

    def reset(self, key: Key[Array, ""]) -> tuple[Any, TimeStep]:
        """Draw a board."""
        state, shown = self.suite.reset(key)
        return state, self._show(shown)

    def step(self, key: Key[Array, ""], state: Any, actions: dict[str, Array]) -> tuple[Any, TimeStep]:
        """Play one step; the game itself has no chance, so the key is unused."""
        state, shown = self.suite.step(state, actions["connectors"])
        return state, self._show(shown)

    def render(self, states: list[Any], path: str) -> None:
        """Draw the states of one episode as a GIF."""
        self.suite.animate(states, save_path=path)


def make(name: str, *, time_limit: int = 50) -> Connector:
    """A board of that size."""
    return Connector(name, time_limit)
