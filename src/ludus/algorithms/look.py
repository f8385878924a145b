"""What networks make of a rollout: at all its steps, at what follows the last, and at true last moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ludus.algorithms.view import Everywhere, Glimpse, View, moments
from ludus.core.policy import Memory
from ludus.core.rollout import Moment, Rollout
from ludus.core.spec import GameSpec, GroupSpec
from ludus.networks.torso import Torso


def unroll(
    torso: Torso,
    own: View,
    rollout: Rollout,
    memory: Memory,
    see: Callable[[Glimpse], Array],
    *,
    memories: Memory = (),
) -> tuple[Everywhere, Memory]:
    """A torso's cores of what `see` takes of every glimpse, and its memory after the last step.

    At true last moments memory is that of the step before. `memories` after every step, if they are known already,
    save the pass over all steps: with memory, a torso's core is its memory after the step.
    """
    of_mover = lambda glimpse, memory: (
        memory if glimpse.seat is None else jnp.take_along_axis(memory, glimpse.seat[..., None], axis=-2)
    )
    if jax.tree.leaves(memories):
        core = of_mover(own.now, memories)
    else:
        core, memories = torso.unroll_core(see(own.now), memory, rollout.start, own.now.seat, own.now.acting)
    final = jax.tree.map(lambda m: m[-1], memories)

    def at(glimpse: Glimpse, memory: Memory) -> Array:
        memory = jax.tree.map(lambda m: of_mover(glimpse, m), memory)
        return torso.step_core(see(glimpse), memory, glimpse.seat)[0]

    last = None
    if own.last is not None and rollout.last_time is not None:
        time = jnp.minimum(rollout.last_time, rollout.start.shape[0] - 1)
        before = jax.tree.map(lambda m: m[time, jnp.arange(time.shape[1])], memories)
        last = at(own.last, before)
    return Everywhere(core, at(own.next, final), last), final


def for_agents(
    function: Callable[[Any, View], Everywhere],
    parameters: Any,
    own: View,
    agents: int,
    *,
    independent: bool,
    behind: int,
) -> Everywhere:
    """What `function(parameters, view)` gives for every agent of a group, with shared or independent parameters.

    Its results have `behind` axes from the agent's on. In turn-based games rows of agents that do not act are the
    mover's.
    """
    if not independent:
        return function(parameters, own).map(lambda x: spread(x, agents, behind))
    found: Everywhere = jax.vmap(function)(parameters, own.split())
    return found.map(lambda x: jnp.moveaxis(x.squeeze(-behind), 0, -behind))


def legal_actions(rollout: Rollout, group: GroupSpec) -> Everywhere | None:
    """`[…, agent, action]`, or None where everything is legal."""
    if rollout.groups[group.name].legal is None:
        return None
    return moments(rollout).map(lambda m: spread(m[group.name].legal, group.size, 2))


def acting(rollout: Rollout, group: GroupSpec) -> Everywhere:
    """`[…, agent]`."""
    return moments(rollout).map(lambda m: m[group.name].acting)


def joint_state(rollout: Rollout, spec: GameSpec, groups: list[GroupSpec]) -> Everywhere:
    """What a mixer sees, `[…, feature]`: the global state, or the observations of all the team's agents."""

    def see(moments: dict[str, Moment]) -> Array:
        first = moments[groups[0].name]
        lead = first.acting.ndim - 1
        if spec.state is not None:
            assert first.state is not None
            return first.state.reshape(*first.state.shape[:lead], -1).astype(jnp.float32)
        parts = [moments[g.name].observation for g in groups]
        return jnp.concatenate([x.reshape(*x.shape[:lead], -1).astype(jnp.float32) for x in parts], -1)

    return moments(rollout).map(see)


def state_size(spec: GameSpec, groups: list[GroupSpec]) -> int:
    """The width of `joint_state`."""
    return spec.state.size if spec.state is not None else sum(g.slots * g.observation.size for g in groups)


def spread(x: Array, agents: int, behind: int) -> Array:
    """From rows to agents, where there are fewer rows than agents; `behind` axes from the row's on."""
    axis = x.ndim - behind
    return x if x.shape[axis] == agents else jnp.broadcast_to(x, (*x.shape[:axis], agents, *x.shape[axis + 1 :]))


def join(parts: list[Everywhere]) -> Everywhere:
    """Groups side by side on the agent axis (the one after environments)."""
    first, *rest = parts
    axis = {"now": 2, "next": 1, "last": 2}
    put = lambda name: jnp.concatenate([getattr(p, name) for p in parts], axis[name])
    if not rest:
        return first
    return Everywhere(put("now"), put("next"), None if first.last is None else put("last"))


def masked(
    values: Float[Array, "*lead action"], legal: Bool[Array, "*lead action"] | None
) -> Float[Array, "*lead action"]:
    """Illegal actions at the dtype's minimum."""
    return values if legal is None else jnp.where(legal, values, jnp.finfo(values.dtype).min)
