"""Reservoirs: uniform samples of everything that was ever seen (Vitter 1985, algorithm R), for average policies.

Every environment keeps its own, so that reservoirs are spread over devices with the environments.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from ludus.core.sharding import num_shards, shard_index


class Reservoir(eqx.Module):
    """Items are trees of arrays; here every array leads with environment and slot."""

    items: Any
    pushed: Int[Array, " env"]  # how many items were ever offered; the same for all

    @staticmethod
    def empty(item: Any, envs: int, slots: int) -> Reservoir:
        """Room for `slots` items of each environment, of the shapes of `item`."""
        make = lambda x: jnp.zeros((envs, slots, *x.shape), x.dtype)
        return Reservoir(jax.tree.map(make, item), jnp.zeros(envs, jnp.int32))

    @property
    def slots(self) -> int:
        """Items of each environment."""
        return int(jax.tree.leaves(self.items)[0].shape[1])

    @property
    def filled(self) -> Int[Array, ""]:
        """How many slots hold an item."""
        return jnp.minimum(self.pushed[0], self.slots)

    def push(self, items: Any, key: Key[Array, ""]) -> Reservoir:
        """Offer one item for each environment (arrays lead with it): the n-th is kept with probability slots / n."""
        envs = self.pushed.shape[0]
        place = shard_index() * envs + jnp.arange(envs)
        draw = lambda e, n: jax.random.randint(jax.random.fold_in(key, e), (), 0, n + 1)
        drawn = jax.vmap(draw)(place, self.pushed)
        at = jnp.where(self.pushed < self.slots, self.pushed, drawn)  # beyond the last slot: dropped
        put = lambda old, new: old.at[jnp.arange(envs), at].set(new, mode="drop")
        return Reservoir(jax.tree.map(put, self.items, items), self.pushed + 1)

    def sample(self, size: int, key: Key[Array, ""]) -> Any:
        """`size` items over all devices, uniform over what is kept; arrays lead with them."""
        own, envs = size // num_shards(), self.pushed.shape[0]
        part = shard_index() * own + jnp.arange(own)
        draws = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(key, k), (2,)))(part)
        env = jnp.minimum(((jnp.arange(own) + draws[:, 0]) * envs / own).astype(jnp.int32), envs - 1)
        slot = jnp.minimum((draws[:, 1] * self.filled).astype(jnp.int32), self.filled - 1)
        return jax.tree.map(lambda x: x[env, slot], self.items)
