"""From rollouts to transitions between table entries."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ludus.core.rollout import GroupRollout, Rollout
from ludus.core.spec import GameSpec


class Steps(eqx.Module):
    """What all agents of the game did and met, groups side by side on the agent axis. Time-major."""

    state: Int[Array, "time env agent"]
    action: Int[Array, "time env agent"]
    legal: Bool[Array, "time env agent action"]
    acting: Bool[Array, "time env agent"]
    reward: Float[Array, "time env agent"]
    after: Int[Array, "time env agent"]  # the state that follows: where truncated, the true last one
    after_legal: Bool[Array, "time env agent action"]
    after_acting: Bool[Array, "time env agent"]
    terminated: Bool[Array, "time env"]
    done: Bool[Array, "time env"]


def steps(spec: GameSpec, rollout: Rollout) -> Steps:
    """All groups; those with fewer actions than others are padded with illegal ones."""
    actions = max(group.action.n for group in spec.groups)  # type: ignore[union-attr]
    parts = [_group(rollout, rollout.groups[g.name], g.size, g.action.n, actions) for g in spec.groups]  # type: ignore[union-attr]
    state, action, legal, acting, reward, after, after_legal, after_acting = (
        jnp.concatenate(x, axis=2) for x in zip(*parts, strict=True)
    )
    done = rollout.terminated | rollout.truncated
    return Steps(state, action, legal, acting, reward, after, after_legal, after_acting, rollout.terminated, done)


def _group(rollout: Rollout, group: GroupRollout, size: int, own: int, actions: int) -> tuple[Array, ...]:
    seat = group.seat
    spread = lambda x, at: x if at is None else jnp.broadcast_to(x, (*x.shape[:2], size, *x.shape[3:]))
    index = lambda x: jnp.argmax(x, -1).astype(jnp.int32)
    state = spread(index(group.observation), seat)

    def mask(given: Array | None, like: Array) -> Array:
        own_actions = jnp.ones((*like.shape, own), bool)
        if given is not None:
            own_actions &= given.reshape(*like.shape[:-1], -1, own)
        return jnp.pad(own_actions, ((0, 0),) * like.ndim + ((0, actions - own),))

    legal = mask(group.legal, state)
    following = spread(index(group.next.observation)[None], group.next.seat)
    after = jnp.concatenate([state[1:], following])
    after_acting = jnp.concatenate([group.acting[1:], group.next.acting[None]])
    after_legal = jnp.concatenate([legal[1:], mask(group.next.legal, following)])
    if group.last is not None and rollout.last_time is not None:
        at = (rollout.last_time, jnp.arange(state.shape[1]))
        last = spread(index(group.last.observation), group.last.seat)
        after = after.at[at].set(last, mode="drop")
        after_acting = after_acting.at[at].set(group.last.acting, mode="drop")
        after_legal = after_legal.at[at].set(mask(group.last.legal, last), mode="drop")
    return state, spread(group.action, seat), legal, group.acting, group.reward, after, after_legal, after_acting


class Pending(eqx.Module):
    """Each agent's acting step whose outcome is not known yet."""

    state: Int[Array, "env agent"]
    action: Int[Array, "env agent"]
    reward: Float[Array, "env agent"]  # since
    waiting: Bool[Array, "env agent"]


class Transition(eqx.Module):
    """One environment's step for all agents; only rows in `ready` are to be learned from."""

    state: Int[Array, " agent"]
    action: Int[Array, " agent"]
    reward: Float[Array, " agent"]
    after: Int[Array, " agent"]
    after_legal: Bool[Array, "agent action"]
    terminal: Bool[Array, ""]
    ready: Bool[Array, " agent"]


def update_legal(legal: Array, seen: Steps) -> Array:
    """Which actions are legal in the states that were met; the rest stays as it was thought to be."""
    agents = jnp.broadcast_to(jnp.arange(legal.shape[0]), seen.state.shape)
    lost = legal.shape[1]
    now = jnp.where(seen.acting, seen.state, lost)
    legal = legal.at[agents, now].set(seen.legal, mode="drop")
    after = jnp.where(seen.after_acting & ~seen.terminated[..., None], seen.after, lost)
    return legal.at[agents, after].set(seen.after_legal, mode="drop")


def advance(pending: Pending, step: Steps) -> tuple[Pending, Transition]:
    """Take in one step of all environments; transitions lead with the environment axis."""
    state = jnp.where(step.acting, step.state, pending.state)
    action = jnp.where(step.acting, step.action, pending.action)
    waiting = pending.waiting | step.acting
    reward = jnp.where(step.acting, 0.0, pending.reward) + step.reward
    over = step.terminated[:, None]
    ready = waiting & (over | step.after_acting)
    transition = Transition(state, action, reward, step.after, step.after_legal, step.terminated, ready)
    keep = waiting & ~ready & ~step.done[:, None]
    return Pending(state, action, reward, keep), transition
