"""Sums over the devices that share the environment axis; outside a sharded program they are the identity."""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp

ENV_AXIS = "env"  # the mesh axis over which environments are spread
Tree = TypeVar("Tree")


def sum_over_shards(tree: Tree) -> Tree:
    """Add up over all shards of the environment axis; called inside `shard_map`, or anywhere as the identity.

    All leaves of a kind travel as one array: devices of a host wait for each other once, not once a leaf.
    """
    try:
        if jax.lax.axis_size(ENV_AXIS) == 1:
            return tree
    except NameError:  # no such axis here: one shard holds everything
        return tree
    leaves, structure = jax.tree.flatten(tree)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    summed: list[jax.Array] = list(leaves)
    for kind in {leaf.dtype for leaf in leaves}:
        own = [i for i, leaf in enumerate(leaves) if leaf.dtype == kind]
        flat = jax.lax.psum(jnp.concatenate([leaves[i].reshape(-1) for i in own]), ENV_AXIS)
        begin = 0
        for i in own:
            summed[i] = flat[begin : begin + leaves[i].size].reshape(leaves[i].shape)
            begin += leaves[i].size
    return jax.tree.unflatten(structure, summed)


def shard_index() -> jax.Array | int:
    """Which shard of the environment axis this is; 0 outside a sharded program."""
    try:
        return jax.lax.axis_index(ENV_AXIS)
    except NameError:
        return 0


def num_shards() -> int:
    """How many shards the environment axis has; 1 outside a sharded program."""
    try:
        return int(jax.lax.axis_size(ENV_AXIS))
    except NameError:
        return 1
