"""Sums over the devices that share the environment axis; outside a sharded program they are the identity."""

from __future__ import annotations

from typing import TypeVar

import jax

ENV_AXIS = "env"  # the mesh axis over which environments are spread
Tree = TypeVar("Tree")


def sum_over_shards(tree: Tree) -> Tree:
    """Add up over all shards of the environment axis; called inside `shard_map`, or anywhere as the identity."""
    try:
        return jax.lax.psum(tree, ENV_AXIS)
    except NameError:  # no such axis here: one shard holds everything
        return tree


def shard_index() -> jax.Array | int:
    """Which shard of the environment axis this is; 0 outside a sharded program."""
    try:
        return jax.lax.axis_index(ENV_AXIS)
    except NameError:
        return 0
