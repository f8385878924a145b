"""What one set of parameters learns from: a group's rollout with the critic's inputs beside it.

With shared parameters a view holds all agents of a group. With independent ones `split` gives each agent a view of
its own, stacked on a leading axis to be vmapped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from ludus.core.policy import Memory
from ludus.core.rollout import Moment, Rollout
from ludus.core.spec import GameSpec, GroupSpec


class Glimpse(eqx.Module):
    """What policy and critic see, with any axes in front of slots and agents."""

    observation: Shaped[Array, "*lead slot ..."]
    central: Float[Array, "*lead slot feature"] | None  # a centralised critic's input
    acting: Bool[Array, "*lead agent"]
    seat: Int[Array, "*lead slot"] | None

    @property
    def critic_input(self) -> Array:
        """The central view if there is one, else the agent's own observation."""
        return self.observation if self.central is None else self.central


class Everywhere(eqx.Module):
    """One array (or tree) for the steps of a rollout, one for what follows the last, one for true last moments."""

    now: Any  # [time, env, agent, …]
    next: Any  # [env, agent, …]
    last: Any | None  # [row, env, agent, …]; None where there are none

    def map(self, function: Callable[..., Any], *others: Everywhere) -> Everywhere:
        """Apply a function to what stands at the same place."""
        last = None if self.last is None else function(self.last, *(o.last for o in others))
        return Everywhere(
            function(self.now, *(o.now for o in others)), function(self.next, *(o.next for o in others)), last
        )


def moments(rollout: Rollout) -> Everywhere:
    """What all groups see, `dict[group, Moment]`, everywhere in a rollout."""
    groups = rollout.groups
    last = {name: g.last for name, g in groups.items() if g.last is not None}
    return Everywhere(
        {name: Moment(g.observation, g.legal, g.acting, g.seat, rollout.state) for name, g in groups.items()},
        {name: g.next for name, g in groups.items()},
        last or None,
    )


class View(eqx.Module):
    """Experience of the agents that share one set of parameters."""

    now: Glimpse  # [time, env, ...]
    next: Glimpse  # [env, ...]
    last: Glimpse | None  # [row, env, ...]
    legal: Bool[Array, "time env slot action"] | None
    action: Shaped[Array, "time env slot ..."]
    log_prob: Float[Array, "time env slot"]
    reward: Float[Array, "time env agent"]
    memory: Memory
    memories: Memory  # after every step: [time, env, agent, ...]; () where not kept

    def split(self) -> View:
        """A view for each agent, stacked: every agent is a group of one."""
        agents = self.reward.shape[-1]
        by_agent = lambda x, axis: jnp.expand_dims(jnp.moveaxis(x, axis, 0), axis + 1)
        if self.now.seat is None:
            by_slot = by_agent
        else:  # every agent sees the mover's row; `acting` says when it is its own
            by_slot = lambda x, axis: jnp.broadcast_to(x, (agents, *x.shape))

        def glimpse(g: Glimpse, slot: int) -> Glimpse:
            return Glimpse(
                observation=by_slot(g.observation, slot),
                central=None if g.central is None else by_slot(g.central, slot),
                acting=by_agent(g.acting, slot),
                seat=None if g.seat is None else jnp.zeros((agents, *g.seat.shape), g.seat.dtype),
            )

        return View(
            now=glimpse(self.now, 2),
            next=glimpse(self.next, 1),
            last=None if self.last is None else glimpse(self.last, 2),
            legal=None if self.legal is None else by_slot(self.legal, 2),
            action=by_slot(self.action, 2),
            log_prob=by_slot(self.log_prob, 2),
            reward=by_agent(self.reward, 2),
            memory=jax.tree.map(lambda m: by_agent(m, 1), self.memory),
            memories=jax.tree.map(lambda m: by_agent(m, 2), self.memories),
        )


def view(rollout: Rollout, spec: GameSpec, group: GroupSpec, critic: Literal["local", "central"]) -> View:
    """A group's view of a rollout."""
    own = rollout.groups[group.name]

    def glimpse(moments: dict[str, Moment]) -> Glimpse:
        mine = moments[group.name]
        central = central_input(spec, group, moments) if critic == "central" else None
        return Glimpse(mine.observation, central, mine.acting, mine.seat)

    seen = moments(rollout).map(glimpse)
    return View(
        now=seen.now,
        next=seen.next,
        last=seen.last,
        legal=own.legal,
        action=own.action,
        log_prob=own.log_prob,
        reward=own.reward,
        memory=own.memory,
        memories=own.memories,
    )


def central_size(spec: GameSpec, group: GroupSpec) -> int:
    """The width of `central_input`."""
    if spec.state is not None:
        return spec.state.size + group.observation.size
    return sum(g.size * g.observation.size for g in spec.groups)


def central_input(spec: GameSpec, group: GroupSpec, moments: dict[str, Moment]) -> Float[Array, "... slot feature"]:
    """What a centralised critic sees for each row: the state and the row's own observation, if the game has a state;
    else the observations of all agents, the row's own first."""
    mine = moments[group.name]
    own = _flat(mine.observation, group)
    if spec.state is not None:
        assert mine.state is not None
        lead = own.shape[:-2]
        state = mine.state.reshape(*lead, 1, -1).astype(jnp.float32)
        return jnp.concatenate([jnp.broadcast_to(state, (*own.shape[:-1], state.shape[-1])), own], axis=-1)
    order = (jnp.arange(group.size)[:, None] + jnp.arange(group.size)) % group.size
    team = own[..., order, :].reshape(*own.shape[:-1], -1)
    others = [_flat(moments[g.name].observation, g) for g in spec.groups if g.name != group.name]
    others = [x.reshape(*x.shape[:-2], 1, -1) for x in others]
    return jnp.concatenate([team, *(jnp.broadcast_to(x, (*own.shape[:-1], x.shape[-1])) for x in others)], axis=-1)


def _flat(x: Array, group: GroupSpec) -> Array:
    """Observations as vectors: [..., slot, feature]."""
    lead = x.ndim - len(group.observation.shape)
    return x.reshape(*x.shape[:lead], -1).astype(jnp.float32)


def to_slots(x: Array, seat: Int[Array, "*lead slot"] | None) -> Array:
    """Per agent to per row."""
    return x if seat is None else jnp.take_along_axis(x, seat, axis=-1)


def to_agents(x: Array, agents: int) -> Array:
    """Per row to per agent; where an agent does not act, the value is somebody else's and must be masked."""
    return jnp.broadcast_to(x, (*x.shape[:-1], agents)) if x.shape[-1] != agents else x
