"""Actions of many agents as critics see them: vectors, each owner's own first.

Arrays lead with any axes, then agent; `own` is what the agents of a group do, `others` what everybody does, by group:
`[…, agent, feature]`, or `[…, owner, agent, feature]` where every owner has its own idea of the others.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ludus.algorithms.view import central_input, central_size
from ludus.core.rollout import Moment
from ludus.core.spaces import Discrete, Space
from ludus.core.spec import GameSpec, GroupSpec
from ludus.networks.actor import edges
from ludus.networks.distributions import Categorical


def action_size(space: Space) -> int:
    """The width of an action as a vector."""
    return space.n if isinstance(space, Discrete) else space.size


def as_vector(space: Space, action: Array) -> Float[Array, "*lead feature"]:
    """One-hot, or scaled from its box to [−1, 1]."""
    if isinstance(space, Discrete):
        return jax.nn.one_hot(action, space.n)
    low, high = edges(space, action.shape[:-1])
    return 2 * (jnp.clip(action, low, high) - low) / (high - low) - 1


def relaxed(distribution: Categorical, key: Key[Array, ""]) -> Float[Array, "*lead action"]:
    """A one-hot sample with the gradient of its softmax (straight-through Gumbel-softmax: Jang et al. 2017)."""
    noisy = distribution.log_probs + jax.random.gumbel(key, distribution.log_probs.shape)
    soft = jax.nn.softmax(noisy)
    hard = jax.nn.one_hot(jnp.argmax(noisy, -1), soft.shape[-1])
    return hard + (soft - jax.lax.stop_gradient(soft))


def critic_size(spec: GameSpec, group: GroupSpec, *, central: bool) -> int:
    """The width of `critic_input`."""
    if not central:
        return group.observation.size + action_size(group.action)
    return central_size(spec, group) + sum(g.size * action_size(g.action) for g in spec.groups)


def critic_input(
    spec: GameSpec, group: GroupSpec, moments: dict[str, Moment], own: Array, others: dict[str, Array], *, central: bool
) -> Float[Array, "*lead agent feature"]:
    """What a group's critics see at some moment."""
    if not central:
        seen = moments[group.name].observation
        return jnp.concatenate([seen.reshape(*own.shape[:-1], -1).astype(jnp.float32), own], -1)
    return jnp.concatenate([central_input(spec, group, moments), own_first(group, own, others)], -1)


def own_first(group: GroupSpec, own: Array, others: dict[str, Array]) -> Float[Array, "*lead agent feature"]:
    """All actions: the owner's own, its group's in turn, then those of other groups."""
    lead, n = own.shape[:-2], group.size
    apart = lambda x: x.ndim == own.ndim + 1  # owners with ideas of their own
    order = (jnp.arange(n)[:, None] + jnp.arange(n)) % n
    mates = others[group.name]
    if apart(mates):
        table = jnp.take_along_axis(mates, order.reshape(*[1] * len(lead), n, n, 1), axis=-2)
    else:
        table = mates[..., order, :]
    parts = [own, table[..., 1:, :].reshape(*lead, n, -1)]
    for name, x in others.items():
        if name != group.name:
            flat = x.reshape(*lead, n if apart(x) else 1, -1)
            parts.append(jnp.broadcast_to(flat, (*lead, n, flat.shape[-1])))
    return jnp.concatenate(parts, -1)
