"""What learners from replay share: room for experience, and gradient steps once there is enough of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from ludus.core.algorithm import Learner, Metrics
from ludus.core.rollout import Rollout
from ludus.core.sharding import num_shards
from ludus.learning.replay import Replay, Sample, by_env, by_time

Step = Callable[[Any, Sample, Array, Key[Array, ""]], tuple[Any, Array, Metrics]]


def one_step(rollout: Rollout) -> Rollout:
    """A rollout of one step with what truly follows it: at a time limit the true last moment, not the next episode's
    first. Values are then asked once for what follows. Longer rollouts stay as they are."""
    if rollout.start.shape[0] > 1 or rollout.last_time is None:
        return rollout
    cut = rollout.last_time[0] == 0
    choose = lambda last, new: jnp.where(cut.reshape(-1, *[1] * (new.ndim - 1)), last[0], new)
    groups = {
        name: replace(g, next=jax.tree.map(choose, g.last, g.next), last=None) for name, g in rollout.groups.items()
    }
    return replace(rollout, groups=groups, truncated=jnp.zeros_like(rollout.truncated), last_time=None)


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
        batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), segment)
        batch = jax.eval_shape(lambda r: by_env(one_step(by_time(r))), batch)
        segment = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), batch)
        return Learner(learner.shared, Replay.empty(segment, num_envs, slots, prioritised=self.prioritised))

    def remember(self, learner: Learner, rollout: Rollout) -> tuple[Learner, Array]:
        """The learner with this rollout in its replay; and how many environment steps it has seen."""
        replay: Replay = learner.per_env.push(one_step(rollout))
        # In floating point: whole numbers of 32 bits would overflow after two thousand million steps.
        seen = replay.pushed[0].astype(jnp.float32) * (replay.pushed.shape[0] * num_shards() * self.rollout_length)
        return Learner(learner.shared, replay), seen

    def practise(
        self, state: Any, replay: Replay, enough: Array, progress: Array, step: Step, key: Key[Array, ""]
    ) -> tuple[Any, Replay, Metrics]:
        """`updates` gradient steps from samples, if there is `enough`; metrics are means over them, else 0.

        `step(state, sample, progress, key)` gives the new state, each segment's error, and metrics.
        """

        # Without priorities the replay only is read: carried along, it would be copied.
        Carry = tuple[Any, Replay | None]
        whole, kept = replay, replay if self.prioritised else None

        def once(carry: Carry, key: Key[Array, ""]) -> tuple[Carry, Metrics]:
            state, replay = carry
            replay = whole if replay is None else replay
            key_sample, key_step = jax.random.split(key)
            correction = self.priority_correction + (1 - self.priority_correction) * progress
            sample = replay.sample(self.batch_size, key_sample, exponent=self.priority_exponent, correction=correction)
            state, error, metrics = step(state, sample, progress, key_step)
            return (state, replay.prioritise(sample, error) if self.prioritised else None), metrics

        def learn(carry: Carry) -> tuple[Carry, Metrics]:
            carry, metrics = jax.lax.scan(once, carry, jax.random.split(key, self.updates))
            return carry, jax.tree.map(lambda x: x.mean(0), metrics)

        shapes = jax.eval_shape(learn, (state, kept))[1]
        wait = lambda carry: (carry, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))
        (state, kept), metrics = jax.lax.cond(enough, learn, wait, (state, kept))
        return state, whole if kept is None else kept, metrics
