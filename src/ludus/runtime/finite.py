"""Where a rollout holds a number that is not finite: the environment, the group and the step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from ludus.core.rollout import GroupRollout, Moment, Rollout
from ludus.core.sharding import ENV_AXIS, shard_index

CLEAN = jnp.iinfo(jnp.int32).max


def first_bad(rollout: Rollout, num_envs: int) -> dict[str, Int[Array, ""]]:
    """Per group, `step * num_envs + environment` of the first NaN or infinity, or `CLEAN`.

    `step` counts from the rollout's first; `num_envs` is the number over all shards. What is learned from is looked
    at: rewards, observations, the global state, and the moments after the last step and at truncations.
    """
    return {name: _first(rollout, group, num_envs) for name, group in rollout.groups.items()}


def _first(rollout: Rollout, group: GroupRollout, num_envs: int) -> Array:
    length = rollout.start.shape[0]
    steps = jnp.arange(length)[:, None]
    found = [_earliest(_bad(x, 2), steps, num_envs) for x in (group.observation, group.reward, rollout.state)]
    found += [_earliest(bad, jnp.asarray(length), num_envs) for bad in _bad_moment(group.next, 1)]
    if group.last is not None and rollout.last_time is not None:
        found += [_earliest(bad, rollout.last_time + 1, num_envs) for bad in _bad_moment(group.last, 2)]
    first = jnp.min(jnp.stack([x for x in found if x is not None]))
    try:
        return jax.lax.pmin(first, ENV_AXIS)
    except NameError:
        return first


def _bad_moment(moment: Moment, lead: int) -> list[Array | None]:
    return [_bad(moment.observation, lead), _bad(moment.state, lead)]


def _bad(x: Array | None, lead: int) -> Array | None:
    """Whether anything is not finite, by the leading axes, the last of which is the environment's."""
    if x is None or not jnp.issubdtype(x.dtype, jnp.floating):
        return None
    return ~jnp.isfinite(x).reshape(*x.shape[:lead], -1).all(-1)


def _earliest(bad: Array | None, step: Array, num_envs: int) -> Array | None:
    if bad is None:
        return None
    index = step * num_envs + shard_index() * bad.shape[-1] + jnp.arange(bad.shape[-1])
    return jnp.min(jnp.where(bad, index, CLEAN)).astype(jnp.int32)
