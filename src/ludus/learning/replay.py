"""Replay: a ring of past rollouts for every environment, sampled as rollouts again.

What is stored is a *segment*: one rollout of one environment, all groups, with memory at its start, what followed it,
and the true last moments of episodes cut in it. A sample is a rollout whose environments are segments, so learners
read replayed experience exactly as fresh one. With rollouts of one step this is the usual replay of transitions; with
longer ones, of sequences with stored memory.

Every environment keeps its own ring, so that the replay is spread over devices with the environments.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ludus.core.rollout import Rollout
from ludus.core.sharding import num_shards, shard_index, sum_over_shards


class Sample(eqx.Module):
    """Segments side by side on the environment axis."""

    rollout: Rollout
    weight: Float[Array, " segment"]  # importance weights, at most 1; 1 where sampling is uniform
    env: Int[Array, " segment"]  # where they came from, in this device's part
    slot: Int[Array, " segment"]


class Replay(eqx.Module):
    """Arrays lead with environment and slot; `slots` segments an environment, the oldest overwritten."""

    segments: Rollout  # every array [env, slot, …]
    priority: Float[Array, "env slot"] | None
    largest: Float[Array, " env"] | None  # priority of new segments: the largest ever met by an environment
    pushed: Int[Array, " env"]  # how many segments were ever pushed; the same for all

    @staticmethod
    def empty(segment: Rollout, envs: int, slots: int, *, prioritised: bool) -> Replay:
        """Room for segments of the shapes of `segment`, a rollout's abstract arrays of one environment."""
        make = lambda x: jnp.zeros((envs, slots, *x.shape), x.dtype)
        return Replay(
            jax.tree.map(make, segment),
            jnp.zeros((envs, slots)) if prioritised else None,
            jnp.ones(envs) if prioritised else None,
            jnp.zeros(envs, jnp.int32),
        )

    @property
    def slots(self) -> int:
        """Segments of each environment."""
        return int(self.segments.start.shape[1])

    @property
    def filled(self) -> Int[Array, ""]:
        """How many slots hold a segment."""
        return jnp.minimum(self.pushed[0], self.slots)

    def push(self, rollout: Rollout) -> Replay:
        """Store one segment for each environment."""
        at = self.pushed[0] % self.slots
        put = lambda ring, x: jax.lax.dynamic_update_index_in_dim(ring, x[:, None], at, 1)
        priority = self.priority
        if priority is not None:
            assert self.largest is not None
            priority = jax.lax.dynamic_update_index_in_dim(priority, self.largest[:, None], at, 1)
        segments = jax.tree.map(put, self.segments, by_env(rollout))
        return Replay(segments, priority, self.largest, self.pushed + 1)

    def sample(
        self, size: int, key: Key[Array, ""], *, exponent: float = 0.0, correction: Array | float = 0.0
    ) -> Sample:
        """`size` segments over all devices. Uniform without priorities; with them in proportion to p^`exponent`, and
        weights (N · P)^−`correction` over their largest (Schaul et al. 2016).

        Samples are stratified: one from each of `size` equal parts of what is sampled from. Uniform samples do not
        depend on how environments are spread over devices.
        """
        shards = num_shards()
        own, envs = size // shards, self.pushed.shape[0]
        part = shard_index() * own + jnp.arange(own)
        keys = jax.vmap(lambda k: jax.random.fold_in(key, k))(part)
        if self.priority is None:
            draws = jax.vmap(lambda k: jax.random.uniform(k, (2,)))(keys)
            env = jnp.minimum(((jnp.arange(own) + draws[:, 0]) * envs / own).astype(jnp.int32), envs - 1)
            slot = jnp.minimum((draws[:, 1] * self.filled).astype(jnp.int32), self.filled - 1)
            return Sample(self._take(env, slot), jnp.ones(own), env, slot)
        exists = jnp.arange(self.slots) < self.filled
        mass = jnp.where(exists, self.priority**exponent, 0.0).reshape(-1)
        cumulative = jnp.cumsum(mass)
        draws = jax.vmap(jax.random.uniform)(keys)
        points = (jnp.arange(own) + draws) / own * cumulative[-1]
        index = jnp.minimum(jnp.searchsorted(cumulative, points, side="right"), mass.shape[0] - 1)
        index = jnp.where(mass[index] > 0, index, jnp.argmax(mass))
        probability = mass[index] / (cumulative[-1] * shards)
        count = sum_over_shards((envs * self.filled).astype(jnp.float32))
        weight = (count * probability) ** -correction
        env, slot = index // self.slots, index % self.slots
        return Sample(self._take(env, slot), weight / weight.max(), env, slot)

    def _take(self, env: Int[Array, " segment"], slot: Int[Array, " segment"]) -> Rollout:
        return by_time(jax.tree.map(lambda x: x[env, slot], self.segments))

    def prioritise(self, sample: Sample, error: Float[Array, " segment"]) -> Replay:
        """Set the sampled segments' priorities to the sizes of their errors."""
        if self.priority is None or self.largest is None:
            return self
        size = jnp.abs(error) + 1e-6
        priority = self.priority.at[sample.env, sample.slot].set(size)
        return Replay(self.segments, priority, jnp.maximum(self.largest, size.max()), self.pushed)

    @property
    def bytes(self) -> int:
        """Memory of the arrays here."""
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(self))


def by_env(rollout: Rollout) -> Rollout:
    """The tree of a rollout with the environment axis in front of every array."""
    envs = rollout.start.shape[1]

    def move(path: Any, x: Array) -> Array:
        if not x.ndim:  # the share of training done
            return jnp.broadcast_to(x, (envs,))
        return x if _timeless(path) else jnp.moveaxis(x, 1, 0)

    moved: Rollout = jax.tree_util.tree_map_with_path(move, rollout)
    return moved


def by_time(segments: Rollout) -> Rollout:
    """The inverse of `by_env`."""

    def move(path: Any, x: Array) -> Array:
        if x.ndim == 1:
            return x[0]
        return x if _timeless(path) else jnp.moveaxis(x, 0, 1)

    moved: Rollout = jax.tree_util.tree_map_with_path(move, segments)
    return moved


def _timeless(path: Any) -> bool:
    """Whether an array stands before or after the rollout's steps: its first axis is the environment's already."""
    return any(getattr(entry, "name", "") in ("memory", "next") for entry in path)
