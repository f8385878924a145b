"""Double oracle (McMahan et al. 2003) over trees: plans as strategies of a growing normal-form game.

With exact best responses and exact payoffs this is PSRO (Lanctot et al. 2017) with a Nash meta-solver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ludus.equilibria.cfr import require_zero_sum
from ludus.equilibria.exact import best_response_to
from ludus.equilibria.normal_form import Matrix, Mixture, solve_zero_sum
from ludus.equilibria.sequence_form import SequenceForm, Strategies

MetaSolver = Callable[[Matrix], tuple[Mixture, Mixture]]


@dataclass
class Restricted:
    """The game among the plans found so far."""

    plans: list[Float[np.ndarray, "_ _"]]  # for each player
    payoff: Matrix  # to player 0
    mixtures: list[Mixture]
    nash_conv: float  # of the mixtures, in the whole game


def nash_mixtures(matrix: Matrix) -> tuple[Mixture, Mixture]:
    """The default meta-solver: a Nash equilibrium by linear programs."""
    x, y, _ = solve_zero_sum(matrix)
    return x, y


def double_oracle(
    game: SequenceForm,
    *,
    start: Strategies | None = None,
    meta_solver: MetaSolver = nash_mixtures,
    tolerance: float = 1e-9,
) -> Iterator[Restricted]:
    """One restricted game after the other, until no best response gains more than `tolerance`.

    Starts from the first legal action everywhere, or from `start`. Strategies that are there already are not added
    again; it ends only where *both* players' responses gain nothing.
    """
    require_zero_sum(game, "double-oracle")
    strategies = start or tuple(_first(side.legal, game.payoff.dtype) for side in game.sides)
    plans = [np.asarray(plan)[None] for plan in game.plans(strategies)]
    matrix = _payoffs(game, *plans)
    while True:
        mixtures = list(meta_solver(matrix))
        mixed = [jnp.asarray(m @ p) for m, p in zip(mixtures, plans, strict=True)]
        gains, responses = _respond(game, mixed)
        yield Restricted(list(plans), matrix, mixtures, float(gains.sum()))
        added = False
        for i, response in enumerate(responses):
            new = np.asarray(response)[None]
            if float(gains[i]) > tolerance and not (np.abs(plans[i] - new).max(1) < 1e-12).any():
                plans[i], added = np.concatenate([plans[i], new]), True
        if not added:
            return
        matrix = _payoffs(game, *plans)


def _first(legal: Array, dtype: np.dtype) -> Array:
    return jax.nn.one_hot(jnp.argmax(legal, 1), legal.shape[1], dtype=dtype)


@jax.jit
def _respond(game: SequenceForm, mixed: list[Array]) -> tuple[Array, list[Array]]:
    """What each player gains by a best response to the other's mixture, and its plan."""
    gains, plans = [], []
    for i, side in enumerate(game.sides):
        gradient = game.gradient(i, mixed)
        value, response = best_response_to(side, gradient)
        gains.append(value - jnp.vdot(gradient, mixed[i]))
        plans.append(side.plan(response))
    return jnp.stack(gains), plans


def _payoffs(game: SequenceForm, own: np.ndarray, other: np.ndarray) -> Matrix:
    """Every plan of player 0 against every plan of player 1, padded to powers of two so that few shapes compile."""
    size = 1 << (max(1, len(other)) - 1).bit_length()
    padded = np.concatenate([other, np.zeros((size - len(other), other.shape[1]), other.dtype)])
    return own @ np.asarray(_gradients(game, jnp.asarray(padded.T)))[:, : len(other)]


@jax.jit
def _gradients(game: SequenceForm, plans: Float[Array, "sequence strategy"]) -> Float[Array, "sequence strategy"]:
    return game.sides[0].gradient([plans])
