"""Means and gradient steps for shared parameters, or for independent ones that lead with the agent axis."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from ludus.core.sharding import sum_over_shards


def average(
    x: Float[Array, "time env agent"], valid: Bool[Array, "time env agent"], *, independent: bool
) -> Float[Array, ""]:
    """This shard's part of the mean over valid entries; with independent parameters the sum of the agents' means."""
    axes = (0, 1) if independent else None
    count = jnp.maximum(sum_over_shards(valid.sum(axes, dtype=jnp.float32)), 1.0)
    return (jnp.where(valid, x, 0.0).sum(axes) / count).sum()


def descend(
    optimiser: optax.GradientTransformation,
    parameters: Any,
    gradient: Any,
    state: Any,
    rate: Array | float,
    *,
    independent: bool,
) -> tuple[Any, Any]:
    """One step of the optimiser; with independent parameters, of every agent's own."""
    step, state = jax.vmap(optimiser.update)(gradient, state) if independent else optimiser.update(gradient, state)
    return jax.tree.map(lambda p, u: p - rate * u, parameters, step), state
