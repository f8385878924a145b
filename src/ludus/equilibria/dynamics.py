"""Learning dynamics of normal-form games, as array programs: they jit, vmap and run on any backend.

Payoffs are tensors `[actions of player 0, …, player]`; players may have different numbers of actions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ludus.equilibria.normal_form import action_values

Mixtures = tuple[Array, ...]


def uniform(payoffs: Float[Array, "..."]) -> Mixtures:
    """Everybody plays all actions alike."""
    return tuple(jnp.full(n, 1.0 / n, payoffs.dtype) for n in payoffs.shape[:-1])


def _repeat(step: Callable[[Any, Array], Any], state: Any, iterations: int | Array) -> Any:
    return jax.lax.fori_loop(1, iterations + 1, lambda t, s: step(s, t), state)


@jax.jit
def fictitious_play(payoffs: Float[Array, "..."], iterations: int | Array) -> Mixtures:
    """Brown 1951: everybody answers the others' average of before at once; averages, ties to the lowest index.

    The first joint action is everybody's action 0.
    """

    def step(counts: Mixtures, t: Array) -> Mixtures:
        # Counts, not averages: they are whole numbers, so that ties in integer games are ties.
        best = [jnp.argmax(action_values(payoffs, counts, i)) for i in range(len(counts))]
        return tuple(c.at[b].add(1.0) for c, b in zip(counts, best, strict=True))

    first = tuple(jnp.zeros(n, payoffs.dtype).at[0].set(1.0) for n in payoffs.shape[:-1])
    counts = _repeat(step, first, iterations - 1)
    return tuple(c / c.sum() for c in counts)


@partial(jax.jit, static_argnames="plus")
def regret_matching(payoffs: Float[Array, "..."], iterations: int | Array, plus: bool = False) -> Mixtures:
    """Hart & Mas-Colell 2000; `plus`: regrets cut at zero, averages weighted by time (Tammelin 2014)."""
    start = uniform(payoffs)

    def match(regret: Array) -> Array:
        positive = jnp.maximum(regret, 0)
        total = positive.sum()
        return jnp.where(total > 0, positive / jnp.where(total > 0, total, 1), 1.0 / regret.size)

    def step(state: tuple[Mixtures, Mixtures], t: Array) -> tuple[Mixtures, Mixtures]:
        regrets, totals = state
        play = tuple(match(r) for r in regrets)
        weight = t.astype(payoffs.dtype) if plus else 1.0
        totals = tuple(total + weight * x for total, x in zip(totals, play, strict=True))
        new = []
        for i, regret in enumerate(regrets):
            q = action_values(payoffs, play, i)
            regret = regret + q - q @ play[i]
            new.append(jnp.maximum(regret, 0) if plus else regret)
        return tuple(new), totals

    zeros = tuple(jnp.zeros_like(x) for x in start)
    _, totals = _repeat(step, (zeros, zeros), iterations)
    return tuple(total / total.sum() for total in totals)


@partial(jax.jit, static_argnames="average")
def replicator(
    payoffs: Float[Array, "..."],
    start: Mixtures,
    iterations: int | Array,
    step_size: float | Array = 1e-2,
    floor: float | Array = 0.0,
    average: bool = False,
) -> Mixtures:
    """Replicator dynamics x' = x (q − x·q); with a `floor` γ > 0 projected onto x ≥ γ (Lanctot et al. 2017)."""

    def step(state: tuple[Mixtures, Mixtures], t: Array) -> tuple[Mixtures, Mixtures]:
        play, totals = state
        new = []
        for i, x in enumerate(play):
            q = action_values(payoffs, play, i)
            x = x + step_size * x * (q - q @ x)
            new.append(project(x, floor))
        return tuple(new), tuple(a + b for a, b in zip(totals, new, strict=True))

    play, totals = _repeat(step, (start, tuple(jnp.zeros_like(x) for x in start)), iterations)
    return tuple(x / x.sum() for x in (totals if average else play))


def project(x: Float[Array, " action"], floor: Float[Array, ""] | float) -> Float[Array, " action"]:
    """The nearest mixture whose entries are all at least `floor` (Duchi et al. 2008)."""
    mass = 1.0 - floor * x.size
    shifted = x - floor
    ordered = jnp.sort(shifted)[::-1]
    excess = jnp.cumsum(ordered) - mass
    rank = jnp.arange(1, x.size + 1)
    last = jnp.sum(ordered - excess / rank > 0)
    return jnp.maximum(shifted - excess[last - 1] / last, 0) + floor


@jax.jit
def logit_qre(payoffs: Float[Array, "..."], temperature: float | Array, iterations: int | Array = 100_000) -> Mixtures:
    """The logit quantal response equilibrium of that temperature, by magnetic mirror descent with η = α/L².

    In zero-sum games convergence is linear; in general-sum games the fixed point that is found is one of several.
    """
    largest = jnp.maximum(jnp.abs(payoffs).max(), 1e-9)
    eta = temperature / largest**2

    def improve(state: tuple[Mixtures, Array, Array]) -> tuple[Mixtures, Array, Array]:
        logs, _, t = state
        play = tuple(jnp.exp(x) for x in logs)
        new = tuple(
            jax.nn.log_softmax((x + eta * action_values(payoffs, play, i)) / (1 + eta * temperature))
            for i, x in enumerate(logs)
        )
        moved = jnp.stack([jnp.abs(a - b).max() for a, b in zip(new, logs, strict=True)]).max()
        return new, moved, t + 1

    start = tuple(jnp.log(x) for x in uniform(payoffs))
    going = lambda state: (state[1] > 4 * jnp.finfo(payoffs.dtype).eps) & (state[2] < iterations)
    logs, _, _ = jax.lax.while_loop(going, improve, (start, jnp.asarray(jnp.inf, payoffs.dtype), jnp.asarray(0)))
    return tuple(jnp.exp(x) for x in logs)


def mirror_step(
    payoffs: Float[Array, "..."],
    play: Mixtures,
    temperature: float | Array,
    step_size: float | Array,
    magnet: Mixtures | None = None,
) -> Mixtures:
    """One simultaneous step of magnetic mirror descent: x' ∝ [x m^{ηα} exp(η q)]^{1/(1+ηα)} (Sokota et al. 2023)."""
    magnet = magnet if magnet is not None else uniform(payoffs)
    pull = step_size * temperature
    return tuple(
        jax.nn.softmax((jnp.log(x) + pull * jnp.log(m) + step_size * action_values(payoffs, play, i)) / (1 + pull))
        for i, (x, m) in enumerate(zip(play, magnet, strict=True))
    )
