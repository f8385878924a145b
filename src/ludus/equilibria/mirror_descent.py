"""Magnetic mirror descent on the sequence form with dilated entropy (Sokota et al. 2023).

With a fixed temperature α and a step size η ≤ α/L², L the largest payoff's size, the last iterate converges linearly
to the (reduced normal-form) logit quantal response equilibrium of temperature α. With an annealed temperature it
approaches a Nash equilibrium.
"""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ludus.equilibria.sequence_form import SequenceForm, Side, Strategies, values


class MMDState(eqx.Module):
    """Log-probabilities `[infoset, slot]`, which stay exact where probabilities underflow."""

    log_strategy: tuple[Float[Array, "_ _"], ...]
    iteration: Int[Array, ""]


@dataclass(frozen=True)
class MMD:
    """Players move at once, each along his gradient, drawn to the uniform magnet and held near his last strategy."""

    temperature: float = 0.1
    """α: the weight of the entropy; that of the first iteration where it is annealed."""
    step_size: float | None = None
    """η; by default α/L², the largest with a guarantee (annealed: 1/(L √t))."""
    anneal: bool = False
    """Let the temperature fall with 1/√t, towards a Nash equilibrium."""

    def init(self, game: SequenceForm) -> MMDState:
        """Uniform play."""
        return MMDState(tuple(_log(side, side.uniform()) for side in game.sides), jnp.zeros((), jnp.int32))

    def step(self, game: SequenceForm, state: MMDState) -> MMDState:
        """One iteration."""
        dtype = game.payoff.dtype
        largest = jnp.maximum(jnp.abs(game.payoff).max(), 1e-9)
        t = (state.iteration + 1).astype(dtype)
        alpha = jnp.asarray(self.temperature, dtype)
        if self.anneal:
            alpha = alpha / jnp.sqrt(t)
        if self.step_size is not None:
            eta = jnp.asarray(self.step_size, dtype) / (jnp.sqrt(t) if self.anneal else 1)
        else:
            eta = 1 / (largest * jnp.sqrt(t)) if self.anneal else alpha / largest**2
        plans = game.plans(tuple(jnp.exp(x) for x in state.log_strategy))
        moved = tuple(
            _improve(side, game.gradient(i, plans), state.log_strategy[i], alpha, eta)
            for i, side in enumerate(game.sides)
        )
        return MMDState(moved, state.iteration + 1)

    def average(self, game: SequenceForm, state: MMDState) -> Strategies:
        """The last iterate."""
        return tuple(jnp.exp(x) for x in state.log_strategy)


def _improve(
    side: Side,
    gradient: Float[Array, " sequence"],
    log_strategy: Float[Array, "infoset slot"],
    alpha: Array,
    eta: Array,
) -> Float[Array, "infoset slot"]:
    """argmax <g, x> − α ψ(x) − B_ψ(x; x_t)/η, ψ the dilated negative entropy, in closed form from the bottom up."""
    lowest = jnp.finfo(gradient.dtype).min
    weight = alpha + 1 / eta

    def score(q: Array, begin: int, end: int) -> Array:
        raw = (q + log_strategy[begin:end] / eta) / weight
        return jnp.where(side.legal[begin:end], raw, lowest)

    worth = lambda q, begin, end: weight * jax.nn.logsumexp(score(q, begin, end), axis=1)
    choices = values(side, gradient, worth)
    log = jax.nn.log_softmax(score(choices.action, 0, side.shape[0]), axis=1)
    return jnp.where(side.legal, log, lowest)


def _log(side: Side, strategy: Float[Array, "infoset slot"]) -> Float[Array, "infoset slot"]:
    lowest = jnp.finfo(strategy.dtype).min
    return jnp.where(side.legal, jnp.log(jnp.where(side.legal, strategy, 1)), lowest)
