"""Classic control from gymnax: a single agent is a group of one. Time limits are truncations."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ludus.core.game import TimeStep
from ludus.core.spaces import Box, Discrete, Space
from ludus.core.spec import GameSpec, GroupSpec
from ludus.envs.parts import import_part

_CLASSES = {
    "CartPole-v1": "CartPole",
    "Pendulum-v1": "Pendulum",
    "Acrobot-v1": "Acrobot",
    "MountainCar-v0": "MountainCar",
    "MountainCarContinuous-v0": "ContinuousMountainCar",
}
NAMES = tuple(_CLASSES)


def _action_space(space: Any) -> Space:
    if hasattr(space, "n"):
        return Discrete(int(space.n))
    low, high = float(np.min(space.low)), float(np.max(space.high))
    return Box(tuple(space.shape) or (1,), low, high)


class Gymnax:
    """One gymnax environment."""

    def __init__(self, name: str, max_steps: int | None = None):
        self.suite: Any = getattr(import_part("gymnax.environments.classic_control"), _CLASSES[name])()
        params = self.suite.default_params
        self.params = params if max_steps is None else params.replace(max_steps_in_episode=max_steps)
        observation = Box(tuple(self.suite.observation_space(params).shape))
        action = _action_space(self.suite.action_space(params))
        group = GroupSpec("agent", 1, observation, action, "agent", 1)
        horizon = int(self.params.max_steps_in_episode)
        self.spec = GameSpec(f"gym/{name}", (group,), "common", symmetric=True, horizon=horizon, truncates=True)

    def _show(self, observation: Array, reward: Array, terminated: Array, truncated: Array) -> TimeStep:
        return TimeStep(
            observation={"agent": observation[None]},
            legal={},
            acting={"agent": jnp.ones(1, bool)},
            reward={"agent": jnp.asarray(reward, jnp.float32).reshape(1)},
            terminated=terminated,
            truncated=truncated,
        )

    def reset(self, key: Key[Array, ""]) -> tuple[Any, TimeStep]:
        """Begin an episode."""
        observation, state = self.suite.reset_env(key, self.params)
        no = jnp.asarray(False)
        return state, self._show(observation, jnp.zeros(()), no, no)

    def step(self, key: Key[Array, ""], state: Any, actions: dict[str, Array]) -> tuple[Any, TimeStep]:
        """Play one step."""
        action = actions["agent"][0]
        space = self.spec.groups[0].action
        if isinstance(space, Box):
            action = jnp.clip(action, jnp.asarray(space.low), jnp.asarray(space.high))
        observation, state, reward, terminated, _ = self.suite.step_env(key, state, action, self.params)
        terminated = jnp.asarray(terminated, bool)
        truncated = self.suite.is_truncated(state, self.params) & ~terminated
        return state, self._show(observation, reward, terminated, truncated)


def make(name: str, *, max_steps: int | None = None) -> Gymnax:
    """A classic-control task; `max_steps` changes its time limit."""
    return Gymnax(name, max_steps)
