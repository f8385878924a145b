"""Auto-reset that costs what it must: only when episodes end, and for about as many environments as ended."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key

from ludus.core.game import Environment, TimeStep


def reset_where(
    env: Environment, done: Bool[Array, " env"], key: Key[Array, " env"], state: Any, step: TimeStep
) -> tuple[Any, TimeStep]:
    """Begin new episodes in the environments that are done; the others keep their state.

    Environment e always draws from `key[e]`, so the result does not depend on which others are done.
    """
    envs = done.shape[0]
    block = envs if envs <= 16 else max(8, envs // 8)

    def whole(carry: tuple[Any, TimeStep]) -> tuple[Any, TimeStep]:
        fresh = jax.vmap(env.reset)(key)
        return jax.tree.map(lambda new, old: jnp.where(_rank(done, old), new, old), fresh, carry)

    def some(carry: tuple[Array, tuple[Any, TimeStep]]) -> tuple[Array, tuple[Any, TimeStep]]:
        pending, current = carry
        index = jnp.nonzero(pending, size=block, fill_value=envs)[0]
        fresh = jax.vmap(env.reset)(key[jnp.minimum(index, envs - 1)])
        current = jax.tree.map(lambda new, old: old.at[index].set(new, mode="drop"), fresh, current)
        return pending.at[index].set(False, mode="drop"), current

    if block == envs:
        return jax.lax.cond(done.any(), whole, lambda carry: carry, (state, step))
    return jax.lax.while_loop(lambda carry: carry[0].any(), some, (done, (state, step)))[1]


def _rank(mask: Array, like: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (like.ndim - mask.ndim))
