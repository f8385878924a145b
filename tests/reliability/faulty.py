"""Games that misbehave: numbers that are not finite, at a chosen place and step, and a host that is slow."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ludus.core.game import TimeStep
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GameSpec, GroupSpec

Place = Literal["observation", "reward", "last_observation", "state"]


class Faulty:
    """A walk of `horizon` steps; the episodes with an unlucky draw break at step `at`."""

    def __init__(self, name: str, place: Place, at: int, chance: float, value: float, horizon: int, seconds: float):
        box = Box((2,), -1.0, 1.0)
        group = GroupSpec("walkers", 1, box, Discrete(2), team="walkers", slots=1)
        state = Box((1,), -1.0, 1.0) if place == "state" else None
        self.spec = GameSpec(name, (group,), "common", state=state, horizon=horizon, truncates=True)
        self.place, self.at, self.chance, self.value, self.seconds = place, at, chance, value, seconds

    def _show(self, now: Any, reward: Any) -> TimeStep:
        time_, unlucky = now
        truncated = time_ >= self.spec.horizon
        breaks = unlucky & ((time_ == self.at) if self.place != "last_observation" else truncated)
        bad = jnp.where(breaks, self.value, 0.0)
        seen = jnp.stack([time_ / self.spec.horizon, 1.0])
        step = TimeStep(
            observation={"walkers": seen[None]},
            legal={},
            acting={"walkers": jnp.ones(1, bool)},
            reward={"walkers": reward[None]},
            terminated=jnp.asarray(False),
            truncated=truncated,
            state=seen[:1] if self.spec.state else None,
        )
        if self.place == "reward":
            return replace(step, reward={"walkers": step.reward["walkers"] + bad})
        if self.place == "state":
            return replace(step, state=step.state + bad)
        return replace(step, observation={"walkers": step.observation["walkers"] + bad})

    def reset(self, key: Any) -> tuple[Any, TimeStep]:
        now = (jnp.asarray(0, jnp.int32), jax.random.uniform(key) < self.chance)
        return now, self._show(now, jnp.asarray(0.0))

    def step(self, key: Any, state: Any, actions: Any) -> tuple[Any, TimeStep]:
        now = (state[0] + 1, state[1])
        reward = actions["walkers"][0].astype(jnp.float32)
        if self.seconds:
            shape = jax.ShapeDtypeStruct((), np.float32)
            reward += jax.pure_callback(self._sleep, shape, now[0], vmap_method="broadcast_all")
        return now, self._show(now, reward)

    def _sleep(self, now: Any) -> Any:
        time.sleep(self.seconds)
        return np.zeros(np.shape(now), np.float32)


def make(
    *,
    place: Place = "observation",
    at: int = 3,
    chance: float = 1.0,
    value: float = float("nan"),
    horizon: int = 5,
) -> Faulty:
    return Faulty("faulty:make", place, at, chance, value, horizon, 0.0)


def slow(*, seconds: float = 0.0) -> Faulty:
    return Faulty("faulty:slow", "observation", -1, 0.0, 0.0, 5, seconds)
