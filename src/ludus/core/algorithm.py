"""What learns: an algorithm turns experience into a better learner and knows nothing of the loop around it."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
from jaxtyping import Array, Float, Key

from ludus.core.policy import Policy
from ludus.core.rollout import Rollout
from ludus.core.spec import GameSpec

Metrics = dict[str, Float[Array, ""]]


class Learner(eqx.Module):
    """All that an algorithm remembers. `per_env` arrays lead with the environment axis, the only one sharded."""

    shared: Any  # parameters, optimiser state, normalisers, counters: one copy for all devices
    per_env: Any = ()  # recurrent critics' memories, replay: one slice per environment


class Known(eqx.Module):
    """The game's specification, carried in a learner as static data."""

    spec: GameSpec = eqx.field(static=True)


@runtime_checkable
class Remembers(Protocol):
    """An algorithm that keeps experience: it makes room once the shapes of a rollout are known."""

    def make_room(self, learner: Learner, segment: Rollout, num_envs: int) -> Learner:
        """The learner with room for what it remembers. `segment` has the shapes of one environment's rollout, without
        an environment axis: arrays lead with time, or with nothing."""
        ...


@runtime_checkable
class Algorithm(Protocol):
    """A frozen dataclass of hyperparameters: the configuration *is* the algorithm."""

    rollout_length: int  # the steps of each environment that one update consumes

    def check(self, spec: GameSpec, num_envs: int) -> str | None:
        """Why this algorithm cannot learn this game with so many environments per device, and what would fit."""
        ...

    def init(self, spec: GameSpec, num_envs: int, *, key: Key[Array, ""]) -> Learner:
        """A fresh learner for so many environments."""
        ...

    def policy(self, learner: Learner) -> dict[str, Policy]:
        """What acts, and what a league freezes: one policy per group."""
        ...

    def update(self, learner: Learner, rollout: Rollout, *, key: Key[Array, ""]) -> tuple[Learner, Metrics]:
        """Learn from one rollout."""
        ...
