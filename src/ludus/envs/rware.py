"""The multi-robot warehouse (Christianos et al. 2020; Papoudakis et al. 2021) as Jumanji implements it.

`rware/tiny-2ag[-easy|-hard]`: warehouse; robots; and how many shelves are requested at any time: as many as robots,
twice as many (easy), half as many (hard).

A robot observes Jumanji's vector, int32: itself and the cells around it within `sensor_range`. The step count is not
shown. All robots receive the same reward, 1 for each requested shelf that reaches a goal. In Jumanji, unlike the
original, a collision ends the episode: a termination. The time limit is a truncation; Jumanji ends both alike, so
the collision is read off the state. A collision in the last step is a termination.
Jumanji draws new requests from the key given at the reset, which it keeps in the state.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key
from jumanji.environments.routing.robot_warehouse.env import RobotWarehouse
from jumanji.environments.routing.robot_warehouse.generator import RandomGenerator
from jumanji.environments.routing.robot_warehouse.utils import is_collision
from jumanji.types import TimeStep as JumanjiTimeStep

from ludus.core.errors import UsageError
from ludus.core.game import TimeStep
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GameSpec, GroupSpec

# warehouse -> rows and columns of shelf clusters; each is eight shelves high
_SIZES = {"tiny": (1, 3), "small": (2, 3), "medium": (2, 5), "large": (3, 5)}
NAMES = tuple(f"{size}-{n}ag{kind}" for size, n, kind in product(_SIZES, (2, 4, 6, 8), ("", "-easy", "-hard")))


class Warehouse:
    """One warehouse."""

    def __init__(self, name: str, time_limit: int, sensor_range: int):
        if time_limit < 1 or sensor_range < 1:
            raise UsageError(f"time_limit and sensor_range must be at least 1, not {time_limit} and {sensor_range}")
        size, robots_, difficulty = (*name.split("-"), "")[:3]
        robots = int(robots_.removesuffix("ag"))
        requests = {"": robots, "easy": 2 * robots, "hard": robots // 2}[difficulty]
        rows, columns = _SIZES[size]
        self.suite = RobotWarehouse(RandomGenerator(rows, columns, 8, robots, sensor_range, requests), time_limit)
        group = GroupSpec(
            "robots",
            robots,
            Box((int(self.suite.num_obs_features),), 0.0, float(max(self.suite.grid_size) - 1)),
            Discrete(5),
            "team",
            slots=robots,
            masked=True,
        )
        self.spec = GameSpec(f"rware/{name}", (group,), "common", symmetric=True, horizon=time_limit, truncates=True)

    def _show(self, shown: JumanjiTimeStep, collided: Bool[Array, ""]) -> TimeStep:
        robots = self.suite.num_agents
        return TimeStep(
            observation={"robots": jnp.asarray(shown.observation.agents_view, jnp.int32)},
            legal={"robots": jnp.asarray(shown.observation.action_mask, bool)},
            acting={"robots": jnp.ones(robots, bool)},
            reward={"robots": jnp.broadcast_to(jnp.asarray(shown.reward, jnp.float32), (robots,))},
            terminated=shown.last() & collided,
            truncated=shown.last() & ~collided,
        )

    def reset(self, key: Key[Array, ""]) -> tuple[Any, TimeStep]:
        """Place robots and draw the first requests."""
        state, shown = self.suite.reset(key)
        return state, self._show(shown, jnp.asarray(False))

    def step(self, key: Key[Array, ""], state: Any, actions: dict[str, Array]) -> tuple[Any, TimeStep]:
        """Play one step; chance comes from the key in the state, so this one is unused."""
        state, shown = self.suite.step(state, actions["robots"])
        collided = jax.vmap(lambda robot, i: is_collision(state.grid, robot, i))(state.agents, self.suite.agent_ids)
        return state, self._show(shown, jnp.any(collided))

    def render(self, states: list[Any], path: str) -> None:
        """Draw the states of one episode as a GIF."""
        self.suite.animate(states, save_path=path)


def make(name: str, *, time_limit: int = 500, sensor_range: int = 1) -> Warehouse:
    """A warehouse; `sensor_range` is how many cells far its robots see."""
    return Warehouse(name, time_limit, sensor_range)
