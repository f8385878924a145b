"""The hundred-prisoners riddle (Foerster et al. 2016) as JaxMARL implements it.

One prisoner at a time is in a room with a light bulb, and only that prisoner acts. The riddle ends when one tells
that everyone has been there; reaching the step limit is a truncation.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Key

from ludus.core.errors import UsageError
from ludus.core.game import TimeStep
from ludus.core.spec import GameSpec
from ludus.envs.jaxmarl_common import group, no_reward, stack, stack_rewards, unstack
from ludus.envs.parts import import_part

NAMES = ("",)


class SwitchRiddle:
    """The riddle for some number of prisoners."""

    suite: Any

    def __init__(self, **options: Any):
        try:
            self.suite = import_part("jaxmarl.environments.switch_riddle").SwitchRiddle(**options)
        except AssertionError as error:
            raise UsageError(f"switch_riddle cannot be played like this: {error}") from error
        self.members = (group(self.suite, "prisoners", "team", list(self.suite.agents)),)
        groups = tuple(m.spec for m in self.members)
        self.spec = GameSpec(
            "switch_riddle", groups, "common", symmetric=True, horizon=self.suite.max_steps, truncates=True
        )

    def _show(
        self, observation: dict[str, Array], state: Any, reward: dict[str, Array], terminated: Array, truncated: Array
    ) -> TimeStep:
        views = stack(observation, self.members)
        return TimeStep(
            observation={name: view.astype(jnp.float32) for name, view in views.items()},
            legal={},
            acting={"prisoners": jnp.arange(self.suite.num_agents) == state.agent_in_room},
            reward=reward,
            terminated=terminated,
            truncated=truncated,
        )

    def reset(self, key: Key[Array, ""]) -> tuple[Any, TimeStep]:
        """Begin an episode."""
        observation, state = self.suite.reset(key)
        no = jnp.asarray(False)
        return state, self._show(observation, state, no_reward(self.spec), no, no)

    def step(self, key: Key[Array, ""], state: Any, actions: dict[str, Array]) -> tuple[Any, TimeStep]:
        """Take the action of the prisoner in the room and draw the next one."""
        told = actions["prisoners"][state.agent_in_room] == self.suite.game_actions["TELL"]
        moves = unstack(actions, self.members)
        observation, state, reward, done, _ = self.suite.step_env(key, state, moves)
        paid = stack_rewards(reward, self.members)
        return state, self._show(observation, state, paid, told, done["__all__"] & ~told)


def make(
    name: str,
    *,
    num_agents: int = 3,
    initial_bulb_state: bool = False,
    reward_all_live: float = 1.0,
    reward_all_die: float = -1.0,
) -> SwitchRiddle:
    """The riddle for three prisoners or more."""
    return SwitchRiddle(
        num_agents=num_agents,
        initial_bulb_state=initial_bulb_state,
        reward_all_live=reward_all_live,
        reward_all_die=reward_all_die,
    )
