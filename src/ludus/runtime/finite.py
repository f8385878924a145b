"""Where a rollout holds a number that is not finite: the environment, the group and the step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from ludus.core.rollout import Rollout
from ludus.core.sharding import ENV_AXIS, shard_index

CLEAN = jnp.iinfo(jnp.int32).max


def first_bad(rollout: Rollout, num_envs: int) -> dict[str, Int[Array, ""]]:
    """Per group, `step * num_envs + environment` of the first NaN or infinity, or `CLEAN`.

    `step` counts from the rollout's first; `num_envs` is the number over all shards.
    """
    return {name: _first(_bad(rollout, name), num_envs) for name in rollout.groups}


def _bad(rollout: Rollout, name: str) -> Array:
    group = rollout.groups[name]
    bad = jnp.zeros(rollout.start.shape, bool)
    for x in (group.observation, group.reward):
        if jnp.issubdtype(x.dtype, jnp.floating):
            bad |= ~jnp.isfinite(x).reshape(*bad.shape, -1).all(-1)
    return bad


def _first(bad: Array, num_envs: int) -> Array:
    time, envs = bad.shape
    index = jnp.arange(time)[:, None] * num_envs + shard_index() * envs + jnp.arange(envs)
    first = jnp.min(jnp.where(bad, index, CLEAN)).astype(jnp.int32)
    try:
        return jax.lax.pmin(first, ENV_AXIS)
    except NameError:
        return first
