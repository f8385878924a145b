"""Reservoirs: uniform samples of everything that was ever seen (Vitter 1985, algorithm R), for average policies.

Every environment keeps its own, so that reservoirs are spread over devices with the environments.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from ludus.core.sharding import num_shards, shard_index


class Reservoir(eqx.Module):
    """Items are trees of arrays; here every array leads with environment and slot."""

    items: Any
    pushed: Int[Array, " env"]  # how many items were ever offered

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
    def filled(self) -> Int[Array, " env"]:
        """How many slots of each environment hold an item."""
        return jnp.minimum(self.pushed, self.slots)

    def push(self, items: Any, key: Key[Array, ""], where: Bool[Array, " env"] | None = None) -> Reservoir:
        """Offer one item for each environment (of `where`, else all; arrays lead with it): its n-th item is kept with
        probability slots / n."""
        envs = self.pushed.shape[0]
        place = shard_index() * envs + jnp.arange(envs)
        draw = lambda e, n: jax.random.randint(jax.random.fold_in(key, e), (), 0, n + 1)
        drawn = jax.vmap(draw)(place, self.pushed)
        at = jnp.where(self.pushed < self.slots, self.pushed, drawn)  # beyond the last slot: dropped
        at = at if where is None else jnp.where(where, at, self.slots)
        put = lambda old, new: old.at[jnp.arange(envs), at].set(new, mode="drop")
        count = 1 if where is None else where.astype(self.pushed.dtype)
        return Reservoir(jax.tree.map(put, self.items, items), self.pushed + count)

    def sample(self, size: int, key: Key[Array, ""]) -> Any:
        """`size` items over all devices, uniform over what this device keeps; arrays lead with them. There must be
        some."""
        own, envs = size // num_shards(), self.pushed.shape[0]
        part = shard_index() * own + jnp.arange(own)
        draws = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(key, k), (2,)))(part)
        edges = jnp.cumsum(self.filled.astype(jnp.float32))  # environments by how much they hold, in even strata
        point = (jnp.arange(own) + draws[:, 0]) * edges[-1] / own
        env = jnp.minimum(jnp.searchsorted(edges, point, side="right"), envs - 1)
        held = self.filled[env]
        slot = jnp.minimum((draws[:, 1] * held).astype(jnp.int32), jnp.maximum(held - 1, 0))
        return jax.tree.map(lambda x: x[env, slot], self.items)
