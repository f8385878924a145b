"""What one group learns, and its networks applied to all its agents at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ludus.algorithms.off_policy.inference import Inferred
from ludus.algorithms.view import Everywhere
from ludus.core.rollout import GroupRollout, Moment, Rollout
from ludus.core.spec import GroupSpec
from ludus.networks.actor import ActorNetwork, pick, read
from ludus.networks.critic import Critic


class Networks(eqx.Module):
    """With independent parameters every array leads with the agent axis; an ensemble's axis follows in actors."""

    actor: ActorNetwork
    critic: Critic


class Unit(eqx.Module):
    """All that one group learns."""

    networks: Networks
    target: Networks
    actor_optimiser: Any
    critic_optimiser: Any
    log_temperature: Float[Array, "*stack"]
    temperature_optimiser: Any
    inferred: Inferred | None


def values(critic: Critic, x: Float[Array, "*lead agent feature"], *, independent: bool) -> Array:
    """`[*lead, agent, twin]`."""
    if not independent:
        return critic(x)
    found: Array = jax.vmap(lambda c, x: c(x), in_axes=(0, -2), out_axes=-2)(critic, x)
    return found


def outputs(
    actor: ActorNetwork,
    group: GroupSpec,
    observation: Array,
    member: Int[Array, "*lead agent"] | None,
    *,
    independent: bool,
) -> Float[Array, "*lead agent output"]:
    """What actors give; with an ensemble, each place's own member."""
    one: Callable[..., Array] = lambda a, x: a(x)
    every = one if member is None else jax.vmap(one, in_axes=(0, None))
    if independent:
        axis = observation.ndim - len(group.observation.shape) - 1
        every = jax.vmap(every, in_axes=(0, axis), out_axes=-2)
    found = every(actor, observation)
    return found if member is None else pick(found, member)


def distribution(group: GroupSpec, y: Array, moment: Moment) -> Any:
    """What a group would do at some moment, without noise."""
    stochastic = y.shape[-1] == 2 * getattr(group.action, "size", y.shape[-1])
    return read(group.action, stochastic, y, moment.legal)


def members(own: GroupRollout, rollout: Rollout) -> Everywhere | None:
    """Which sub-policy of an ensemble each agent plays; it stays until the episode's end."""
    drawn = own.extras.get("member")
    if drawn is None:
        return None
    last = None
    if own.last is not None and rollout.last_time is not None:
        time = jnp.minimum(rollout.last_time, drawn.shape[0] - 1)
        last = drawn[time, jnp.arange(drawn.shape[1])]
    return Everywhere(drawn, drawn[-1], last)
