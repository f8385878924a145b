"""The coin game (Lerer and Peysakhovich 2017) as JaxMARL implements it.

An episode is `num_outer_steps` boards of `num_inner_steps` steps each. The suite deals the next board by itself: the
last step of a board pays nothing and shows the new one, also at the end of the episode, which is a truncation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Key

from ludus.core.errors import UsageError
from ludus.core.game import TimeStep
from ludus.core.spec import GameSpec
from ludus.envs.jaxmarl_common import Members, all_act, group, no_reward, stack, stack_rewards, unstack
from ludus.envs.parts import import_part

NAMES = ("",)
_suite = import_part("jaxmarl.environments.coin_game")


class CoinGame:
    """Two players, each with a coin of its own colour; each sees itself and its coin first."""

    def __init__(self, *, payoff_matrix: Sequence[Sequence[float]], shared_rewards: bool, **options: Any):
        if [len(row) for row in payoff_matrix] != [3, 3]:
            raise UsageError(
                "a payoff matrix has a row for each player: for taking a red coin, for taking a blue coin, and for "
                "losing its own to the other, e.g. [[1,1,-2],[1,1,-2]]"
            )
        self.suite: Any = _suite.CoinGame(
            payoff_matrix=[list(row) for row in payoff_matrix], shared_rewards=shared_rewards, **options
        )
        agents = list(self.suite.agents)
        red, blue = (tuple(row) for row in payoff_matrix)
        symmetric = shared_rewards or red == (blue[1], blue[0], blue[2])
        self.members: tuple[Members, ...]
        if shared_rewards:
            self.members = (group(self.suite, "players", "team", agents),)
        elif symmetric:
            self.members = (group(self.suite, "players", "player", agents, rivals=True),)
        else:
            self.members = tuple(group(self.suite, f"player_{a}", f"player_{a}", [a]) for a in agents)
        self.spec = GameSpec(
            "coin_game",
            tuple(m.spec for m in self.members),
            "common" if shared_rewards else "general-sum",
            symmetric=symmetric,
            horizon=self.suite.num_inner_steps * self.suite.num_outer_steps,
            truncates=True,
        )

    def _show(self, observation: dict[str, Array], reward: dict[str, Array], truncated: Array) -> TimeStep:
        return TimeStep(
            observation=stack(observation, self.members),
            legal={},
            acting=all_act(self.spec),
            reward=reward,
            terminated=jnp.asarray(False),
            truncated=truncated,
        )

    def reset(self, key: Key[Array, ""]) -> tuple[Any, TimeStep]:
        """Begin an episode."""
        observation, state = self.suite.reset(key)
        return state, self._show(observation, no_reward(self.spec), jnp.asarray(False))

    def step(self, key: Key[Array, ""], state: Any, actions: dict[str, Array]) -> tuple[Any, TimeStep]:
        """Play one step."""
        moves = unstack(actions, self.members)
        observation, state, reward, done, _ = self.suite.step_env(key, state, moves)
        return state, self._show(observation, stack_rewards(reward, self.members), done["__all__"])


def make(
    name: str,
    *,
    num_inner_steps: int = 10,
    num_outer_steps: int = 10,
    cnn: bool = False,
    egocentric: bool = False,
    shared_rewards: bool = False,
    payoff_matrix: Sequence[Sequence[float]] = ((1.0, 1.0, -2.0), (1.0, 1.0, -2.0)),
) -> CoinGame:
    """The coin game; `cnn` keeps boards as images, `egocentric` centres them on their player."""
    return CoinGame(
        num_inner_steps=num_inner_steps,
        num_outer_steps=num_outer_steps,
        cnn=cnn,
        egocentric=egocentric,
        shared_rewards=shared_rewards,
        payoff_matrix=payoff_matrix,
    )
