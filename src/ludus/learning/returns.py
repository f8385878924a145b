"""Advantages and returns per agent over its own acting steps, in games of any turn order.

An agent's trajectory is the sequence of steps at which it acts. Reward that arrives until its next acting step
belongs to the earlier one; discounting counts acting steps. An episode that terminates ends with value 0, one that
is truncated with the value of its true last observation, and the rollout's edge with the value of the observation
that follows it. Where that value is unknown, because the agent does not act there, the agent's last acting step
itself is the bootstrap: it gets no advantage and `valid` is False.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ludus.core.rollout import Rollout


class Advantages(eqx.Module):
    """Per step, environment and agent; zero where `valid` is False."""

    advantage: Float[Array, "time env agent"]
    target: Float[Array, "time env agent"]  # the λ-return, advantage + value; or that of V-trace
    valid: Bool[Array, "time env agent"]


class Importance(eqx.Module):
    """How probable the actions of a rollout are under another policy than the one that chose them (Espeholt et al.
    2018): ρ weighs what one step teaches, c how far it is passed back."""

    rho: Float[Array, "time env agent"]  # min(ρ̄, π/μ)
    c: Float[Array, "time env agent"]  # λ min(c̄, π/μ)


class _Carry(eqx.Module):
    """What the reverse scan knows of the future, per environment and agent."""

    value: Float[Array, "env agent"]  # at the next acting step
    advantage: Float[Array, "env agent"]  # at the next acting step
    pending: Float[Array, "env agent"]  # reward since this step until then
    known: Bool[Array, "env agent"]  # whether `value` stands for the future


def backups(
    reward: Float[Array, "time env agent"],
    value: Any,
    acting: Any,
    rollout: Rollout,
    *,
    discount: float,
    trace: float = 0.0,
    steps: int = 1,
) -> tuple[Float[Array, "time env agent quantile"], Bool[Array, "time env agent"]]:
    """Targets of values, over acting steps: λ-returns, or n-step returns (`steps`); and where they are known.

    `value` and `acting` hold what stands `now` at every step, `next` after the rollout, and `last` at true last moments
    (or None); values are `[…, agent, quantile]`, each quantile backed up by itself. An n-step return is n one-step
    backups, each of the returns before.
    """
    shape = reward.shape
    # One step alone looks only at what follows it; left out here, its own value is never computed.
    present = jnp.zeros_like(value.now) if shape[0] == 1 else value.now
    last = jnp.zeros((*shape, value.now.shape[-1]))
    known = jnp.zeros(shape, bool)
    if value.last is not None and rollout.last_time is not None:
        at = (rollout.last_time, jnp.arange(shape[1]))
        last = last.at[at].set(value.last, mode="drop")
        known = known.at[at].set(acting.last, mode="drop")

    def once(now: Array, following: Array, final: Array) -> tuple[Array, Array]:
        found = generalised_advantages(
            reward=reward,
            value=now,
            acting=acting.now,
            terminated=rollout.terminated,
            truncated=rollout.truncated,
            next_value=following,
            next_known=acting.next,
            last_value=final,
            last_known=known,
            discount=discount,
            trace=trace,
        )
        return jnp.where(found.valid, found.target, now), found.valid

    every = jax.vmap(once, in_axes=-1, out_axes=(-1, None))
    target, valid = every(present, value.next, last)
    for _ in range(steps - 1):
        target, valid = every(target, value.next, last)
    return target, valid


def generalised_advantages(
    *,
    reward: Float[Array, "time env agent"],
    value: Float[Array, "time env agent"],
    acting: Bool[Array, "time env agent"],
    terminated: Bool[Array, "time env"],
    truncated: Bool[Array, "time env"],
    next_value: Float[Array, "env agent"],
    next_known: Bool[Array, "env agent"],
    last_value: Float[Array, "time env agent"],
    last_known: Bool[Array, "time env agent"],
    discount: Any,
    trace: float,
    bootstrap: bool = True,
    importance: Importance | None = None,
) -> Advantages:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16) over acting steps.

    `trace` is λ. `next_value` stands at the observation after the rollout, `last_value` at the true last observation
    of episodes truncated at that step; `*_known` says where an agent acts there, so that its value exists.

    With `importance` it is V-trace (Espeholt et al. 2018, eq. 1): targets are v_s, and advantages r + γ v_{s+1} − V
    without their weight ρ, which is the policy gradient's affair. `discount` may then be one number for each step.
    """

    def backward(carry: _Carry, step: tuple[Any, ...]) -> tuple[_Carry, tuple[Array, ...]]:
        """One acting step earlier."""
        r, v, act, term, trunc, v_last, last_ok, weights = step
        ended = (term | trunc)[:, None]
        cut = (trunc & ~term)[:, None]
        future = _Carry(
            value=jnp.where(ended, jnp.where(cut, v_last, 0.0), carry.value),
            advantage=jnp.where(ended, 0.0, carry.advantage),
            pending=jnp.where(ended, 0.0, carry.pending) + r,
            known=jnp.where(ended, ~cut | last_ok, carry.known),
        )
        valid = act & future.known
        if weights is None:
            delta = future.pending + discount * future.value - v
            advantage = shown = delta + discount * trace * future.advantage
        else:
            rho, c, gamma = weights
            delta = future.pending + gamma * future.value - v
            advantage = rho * delta + gamma * c * future.advantage
            shown = delta + gamma * future.advantage
        advantage, shown = jnp.where(valid, advantage, 0.0), jnp.where(valid, shown, 0.0)
        earlier = _Carry(
            value=jnp.where(act, v, future.value),
            advantage=jnp.where(act, advantage, future.advantage),
            pending=jnp.where(act, 0.0, future.pending),
            known=future.known | (act & bootstrap),
        )
        return earlier, (advantage, shown, valid)

    zero = jnp.zeros_like(next_value)
    start = _Carry(value=jnp.where(next_known, next_value, 0.0), advantage=zero, pending=zero, known=next_known)
    weights = None if importance is None else (importance.rho, importance.c, jnp.broadcast_to(discount, reward.shape))
    steps = (reward, value, acting, terminated, truncated, last_value, last_known, weights)
    _, (advantage, shown, valid) = jax.lax.scan(backward, start, steps, reverse=True, unroll=8)
    return Advantages(shown, jnp.where(valid, advantage + value, 0.0), valid)
