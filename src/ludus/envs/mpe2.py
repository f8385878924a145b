"""The multi-agent particle environments as their own package keeps them, stepped on the host: `mpe2/NAME`."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pettingzoo import ParallelEnv

from ludus.core.host import HostEnvironment
from ludus.envs.host_agents import Teams
from ludus.envs.pettingzoo import build, listed

NAMES = listed("mpe2")


class Rounds(ParallelEnv):
    """A game whose agents are asked one after the other and all move at the end of the round, as a parallel game.

    The suite's own conversion looks at everything for every agent, through layers of checks: half of a step's time.
    """

    def __init__(self, game: Any):
        self.game, self.possible_agents = game, game.possible_agents
        self.observation_space, self.action_space = game.observation_space, game.action_space
        self.close, self.metadata = game.close, game.metadata
        self.agents: list[str] = []
        self._seen: dict[str, np.ndarray] = {}

    def state(self) -> np.ndarray:
        """What all agents see, as the suite has it."""
        return np.concatenate([self._seen[agent] for agent in self.possible_agents])

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """See PettingZoo's `ParallelEnv`."""
        self.game.reset(seed=seed, options=options)
        self.agents = list(self.game.agents)
        self._seen = {agent: self.game.observe(agent) for agent in self.agents}
        return dict(self._seen), dict(self.game.infos)

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """See PettingZoo's `ParallelEnv`."""
        game, agents = self.game, self.agents
        for agent in agents:
            game.step(actions[agent])
        self._seen = {agent: game.observe(agent) for agent in agents}
        terminated, truncated = dict(game.terminations), dict(game.truncations)
        self.agents = [agent for agent in agents if not (terminated[agent] or truncated[agent])]
        return dict(self._seen), dict(game.rewards), terminated, truncated, dict(game.infos)


def in_rounds(module: Any, **given: Any) -> Any:
    """A game of this suite; where actions are continuous, the suite's own conversion clips them."""
    if given.get("continuous_actions") or given.get("render_mode"):
        return module.parallel_env(**given)
    return Rounds(module.raw_env(**given))


def make(
    name: str,
    *,
    teams: Teams = "auto",
    reward: Literal["own", "team"] = "own",
    turns: Literal["auto", "together", "one-by-one"] = "auto",
    pictures: bool = False,
    arguments: str = "",
) -> HostEnvironment:
    """A game by its module; options as of `ludus.envs.pettingzoo.make`."""
    options: Any = {"teams": teams, "reward": reward, "turns": turns, "pictures": pictures, "arguments": arguments}
    return build("mpe2", name, f"mpe2/{name}", parallel=in_rounds, **options)
