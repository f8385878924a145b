"""Level-based foraging (Albrecht & Ramamoorthy 2013; Papoudakis et al. 2021) as Jumanji implements it.

`lbf/[2s-]8x8-2p-2f[-coop]`: agents see two cells far (`2s`) or everything; grid; foragers; food; `coop` gives every
food a level that needs the three strongest foragers (or all, where there are fewer).

An agent observes Jumanji's vector, int32: (row, column, level) of every food, of itself, of every other agent, places
relative to the corner of its view and (-1, -1, 0) for what is out of sight or eaten. The step count is not shown.
Each forager is paid its own share of what is eaten. Eating all food is a termination, the time limit a truncation;
where both fall together Jumanji calls it a termination. Chance is in the placement only, at the reset.
"""

from __future__ import annotations

import re
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Key
from jumanji.environments.routing.lbf.env import LevelBasedForaging
from jumanji.environments.routing.lbf.generator import RandomGenerator
from jumanji.types import TimeStep as JumanjiTimeStep

from ludus.core.errors import UsageError
from ludus.core.game import TimeStep
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GameSpec, GroupSpec

NAMES = (
    "5x5-2p-1f",
    "5x5-2p-1f-coop",
    "8x8-2p-2f",
    "8x8-2p-2f-coop",
    "2s-8x8-2p-2f-coop",
    "8x8-3p-2f",
    "10x10-3p-3f",
    "2s-10x10-3p-3f",
    "10x10-4p-3f",
    "12x12-2p-1f",
    "15x15-3p-4f",
    "15x15-3p-5f",
    "15x15-4p-3f",
    "15x15-4p-5f",
    "15x15-8p-1f-coop",
)
_NAME = re.compile(r"(?:(\d+)s-)?(\d+)x\2-(\d+)p-(\d+)f(-coop)?")


class Foraging:
    """One task."""

    def __init__(self, name: str, time_limit: int, sight: int | None, penalty: float, normalize_reward: bool):
        parsed = _NAME.fullmatch(name)
        assert parsed is not None
        near, size, foragers, food = (int(part or 0) for part in parsed.groups()[:4])
        sight = (near or size) if sight is None else sight
        if not 1 <= sight <= size:
            raise UsageError(f"sight of lbf/{name} must be between 1 and {size}, not {sight}")
        if time_limit < 1:
            raise UsageError(f"time_limit must be at least 1, not {time_limit}")
        generator = RandomGenerator(size, foragers, food, sight, force_coop=parsed[5] is not None)
        self.suite = LevelBasedForaging(
            generator, time_limit=time_limit, normalize_reward=normalize_reward, penalty=penalty
        )
        shown: Any = self.suite.observation_spec
        view = shown.agents_view
        group = GroupSpec(
            "foragers",
            foragers,
            Box(view.shape[1:], float(view.minimum), float(view.maximum)),
            Discrete(6),
            "team",
            slots=foragers,
            masked=True,
        )
        self.spec = GameSpec(f"lbf/{name}", (group,), "general-sum", symmetric=True, horizon=time_limit, truncates=True)

    def _show(self, shown: JumanjiTimeStep) -> TimeStep:
        # Jumanji tells the two ends apart by the discount: none after a termination
        terminated = shown.last() & jnp.all(shown.discount == 0)
        return TimeStep(
            observation={"foragers": jnp.asarray(shown.observation.agents_view, jnp.int32)},
            legal={"foragers": shown.observation.action_mask},
            acting={"foragers": jnp.ones(self.suite.num_agents, bool)},
            reward={"foragers": jnp.asarray(shown.reward, jnp.float32)},
            terminated=terminated,
            truncated=shown.last() & ~terminated,
        )

    def reset(self, key: Key[Array, ""]) -> tuple[Any, TimeStep]:
        """Place foragers and food."""
        state, shown = self.suite.reset(key)
        return state, self._show(shown)

    def step(self, key: Key[Array, ""], state: Any, actions: dict[str, Array]) -> tuple[Any, TimeStep]:
        """Play one step; the game itself has no chance, so the key is unused."""
        state, shown = self.suite.step(state, actions["foragers"])
        return state, self._show(shown)

    def render(self, states: list[Any], path: str) -> None:
        """Draw the states of one episode as a GIF."""
        self.suite.animate(states, save_path=path)


def make(
    name: str,
    *,
    time_limit: int = 100,
    sight: int | None = None,
    penalty: float = 0.0,
    normalize_reward: bool = True,
) -> Foraging:
    """A task; `sight` replaces the name's.

    `penalty` is taken off when foragers try in vain to load a food, and with `normalize_reward` all rewards of an
    episode in which everything is eaten sum to one.
    """
    return Foraging(name, time_limit, sight, penalty, normalize_reward)
