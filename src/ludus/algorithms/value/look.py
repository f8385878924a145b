"""Action values of replayed rollouts, for every agent, at all steps and at what follows them."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ludus.algorithms.view import Glimpse, View, view
from ludus.core.game import GameSpec, GroupSpec
from ludus.core.rollout import Moment, Rollout
from ludus.networks.q_network import QNetwork


class Everywhere(eqx.Module):
    """One array for the steps of a rollout, one for what follows the last, one for true last moments if there are."""

    now: Array  # [time, env, agent, …]
    next: Array  # [env, agent, …]
    last: Array | None  # [row, env, agent, …]

    def map(self, function, *others: Everywhere) -> Everywhere:  # type: ignore[no-untyped-def]
        """Apply a function to the arrays of the same place."""
        last = None if self.last is None else function(self.last, *(o.last for o in others))
        return Everywhere(
            function(self.now, *(o.now for o in others)), function(self.next, *(o.next for o in others)), last
        )


def action_values(
    network: QNetwork, rollout: Rollout, spec: GameSpec, group: GroupSpec, *, independent: bool
) -> Everywhere:
    """`[…, agent, action, quantile]`. In turn-based games rows of agents that do not act are the mover's."""
    own = view(rollout, spec, group, "local")
    if not independent:
        return _look(network, own, rollout).map(lambda q: _spread(q, group.size, 3))
    found = jax.vmap(lambda n, v: _look(n, v, rollout))(network, own.split())
    return found.map(lambda q: jnp.moveaxis(q.squeeze(-3), 0, -3))


def _look(network: QNetwork, own: View, rollout: Rollout) -> Everywhere:
    torso = network.torso
    core, memories = torso.unroll_core(own.now.observation, own.memory, rollout.start, own.now.seat, own.now.acting)
    final = jax.tree.map(lambda m: m[-1], memories)

    def at(glimpse: Glimpse, memory: Array) -> Array:
        if (seat := glimpse.seat) is not None:
            memory = jax.tree.map(lambda m: jnp.take_along_axis(m, seat[..., None], axis=-2), memory)
        return network.read(torso.step_core(glimpse.observation, memory, glimpse.seat)[0])

    last = None
    if own.last is not None and rollout.last_time is not None:
        time = jnp.minimum(rollout.last_time, rollout.start.shape[0] - 1)
        before = jax.tree.map(lambda m: m[time, jnp.arange(time.shape[1])], memories)
        last = at(own.last, before)
    return Everywhere(network.read(core), at(own.next, final), last)


def legal_actions(rollout: Rollout, group: GroupSpec) -> Everywhere | None:
    """`[…, agent, action]`, or None where everything is legal."""
    own = rollout.groups[group.name]
    if own.legal is None or own.next.legal is None:
        return None
    last = own.last.legal if own.last is not None else None
    return Everywhere(own.legal, own.next.legal, last).map(lambda x: _spread(x, group.size, 2))


def acting(rollout: Rollout, group: GroupSpec) -> Everywhere:
    """`[…, agent]`."""
    own = rollout.groups[group.name]
    return Everywhere(own.acting, own.next.acting, None if own.last is None else own.last.acting)


def joint_state(rollout: Rollout, spec: GameSpec, groups: list[GroupSpec]) -> Everywhere:
    """What a mixer sees, `[…, feature]`: the global state, or the observations of all the team's agents."""
    own = rollout.groups

    def see(moments: dict[str, Moment], lead: int) -> Array:
        first = moments[groups[0].name]
        if spec.state is not None:
            assert first.state is not None
            return first.state.reshape(*first.state.shape[:lead], -1).astype(jnp.float32)
        parts = [moments[g.name].observation for g in groups]
        return jnp.concatenate([x.reshape(*x.shape[:lead], -1).astype(jnp.float32) for x in parts], -1)

    now = {n: Moment(g.observation, g.legal, g.acting, g.seat, rollout.state) for n, g in own.items()}
    last = {n: g.last for n, g in own.items() if g.last is not None}
    return Everywhere(see(now, 2), see({n: g.next for n, g in own.items()}, 1), see(last, 2) if last else None)


def state_size(spec: GameSpec, groups: list[GroupSpec]) -> int:
    """The width of `joint_state`."""
    return spec.state.size if spec.state is not None else sum(g.slots * g.observation.size for g in groups)


def _spread(x: Array, agents: int, behind: int) -> Array:
    """From rows to agents, where there are fewer rows than agents."""
    axis = x.ndim - behind
    return x if x.shape[axis] == agents else jnp.broadcast_to(x, (*x.shape[:axis], agents, *x.shape[axis + 1 :]))


def masked(
    values: Float[Array, "*lead action"], legal: Bool[Array, "*lead action"] | None
) -> Float[Array, "*lead action"]:
    """Illegal actions at the dtype's minimum."""
    return values if legal is None else jnp.where(legal, values, jnp.finfo(values.dtype).min)
