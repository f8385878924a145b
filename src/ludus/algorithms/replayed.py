"""What learners from replay share: room for experience, and gradient steps once there is enough of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from ludus.core.algorithm import Learner, Metrics
from ludus.core.rollout import Rollout
from ludus.core.sharding import num_shards
from ludus.learning.replay import Replay, Sample

Step = Callable[[Any, Sample, Array, Key[Array, ""]], tuple[Any, Array, Metrics]]


class Replayed:
    """Fields are those of a hyperparameters class beside it; `learner.per_env` is the replay."""

    rollout_length: int
    capacity: int
    prioritised: bool = False
    priority_exponent: float = 0.0
    priority_correction: float = 0.0
    warm_up: int
    updates: int
    batch_size: int

    def make_room(self, learner: Learner, segment: Rollout, num_envs: int) -> Learner:
        """See `ludus.core.algorithm.Remembers.make_room`."""
        slots = max(1, self.capacity // (num_envs * self.rollout_length))
        return Learner(learner.shared, Replay.empty(segment, num_envs, slots, prioritised=self.prioritised))

    def remember(self, learner: Learner, rollout: Rollout) -> tuple[Learner, Array]:
        """The learner with this rollout in its replay; and how many environment steps it has seen."""
        replay: Replay = learner.per_env.push(rollout)
        seen = replay.pushed[0] * replay.pushed.shape[0] * num_shards() * self.rollout_length
        return Learner(learner.shared, replay), seen

    def practise(
        self, state: Any, replay: Replay, enough: Array, progress: Array, step: Step, key: Key[Array, ""]
    ) -> tuple[Any, Replay, Metrics]:
        """`updates` gradient steps from samples, if there is `enough`; metrics are means over them, else 0.

        `step(state, sample, progress, key)` gives the new state, each segment's error, and metrics.
        """

        def once(carry: tuple[Any, Replay], key: Key[Array, ""]) -> tuple[tuple[Any, Replay], Metrics]:
            state, replay = carry
            key_sample, key_step = jax.random.split(key)
            correction = self.priority_correction + (1 - self.priority_correction) * progress
            sample = replay.sample(self.batch_size, key_sample, exponent=self.priority_exponent, correction=correction)
            state, error, metrics = step(state, sample, progress, key_step)
            return (state, replay.prioritise(sample, error)), metrics

        def learn(carry: tuple[Any, Replay]) -> tuple[tuple[Any, Replay], Metrics]:
            carry, metrics = jax.lax.scan(once, carry, jax.random.split(key, self.updates))
            return carry, jax.tree.map(lambda x: x.mean(0), metrics)

        shapes = jax.eval_shape(learn, (state, replay))[1]
        wait = lambda carry: (carry, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))
        (state, replay), metrics = jax.lax.cond(enough, learn, wait, (state, replay))
        return state, replay, metrics
