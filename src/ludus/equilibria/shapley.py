"""Stochastic games solved exactly: Shapley's value iteration (Shapley 1953), and policies evaluated."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ludus.core.errors import UsageError
from ludus.core.stochastic import StochasticGame
from ludus.equilibria.stage_games import zero_sum_value


@dataclass(frozen=True)
class Solution:
    """The value of each state to player 0, and both players' stationary strategies."""

    value: Float[np.ndarray, " state"]
    strategies: tuple[Float[np.ndarray, "_ _"], ...]
    residual: float  # of the last iteration; the error is at most residual · γ/(1 − γ)
    iterations: int


def solve(game: StochasticGame, *, iterations: int = 100_000, tolerance: float = 1e-10) -> Solution:
    """The minimax value and strategies of a two-player zero-sum stochastic game. Illegal actions are never played."""
    game.check()
    if not game.zero_sum:
        raise UsageError(f"Shapley iteration solves two-player zero-sum games, which {game.name} is not")
    if game.discount >= 1:
        raise UsageError(f"Shapley iteration needs a discount below 1; {game.name} has {game.discount}")
    with jax.enable_x64(True):
        arrays = _arrays(game)
        pure = jax.jit(lambda v: _sweep(arrays, game.discount, v)[0])
        value = jnp.zeros(game.states)
        residual, t = np.inf, 0
        while residual > tolerance and t < iterations:
            new = pure(value)
            residual, value, t = float(jnp.abs(new - value).max()), new, t + 1
        _, x, y = jax.jit(lambda v: _sweep(arrays, game.discount, v))(value)
        return Solution(np.asarray(value), (np.asarray(x), np.asarray(y)), residual, t)


def _arrays(game: StochasticGame) -> tuple[Array, ...]:
    own, other = (jnp.asarray(mask) for mask in game.legal)
    return (
        jnp.asarray(game.outcome),
        jnp.asarray(game.probability),
        jnp.asarray(game.reward[..., 0]),
        jnp.asarray(game.terminal),
        own,
        other,
    )


def _sweep(arrays: tuple[Array, ...], discount: float, value: Array) -> tuple[Array, Array, Array]:
    outcome, probability, reward, terminal, own, other = arrays
    future = jnp.where(terminal, 0.0, value)
    q = (probability * (reward + discount * future[outcome])).sum(-1)
    q = mask_illegal(q, own, other)
    v, x, y = jax.vmap(zero_sum_value)(q)
    return jnp.where(terminal, 0.0, v), x, y


def mask_illegal(q: Float[Array, "*s row column"], own: Array, other: Array) -> Float[Array, "*s row column"]:
    """A game in which illegal actions are never better than legal ones.

    An illegal row repeats the worst of the legal payoffs, less one; an illegal column the best, plus one.
    """
    legal = own[..., :, None] & other[..., None, :]
    low = jnp.where(legal, q, jnp.inf).min((-2, -1), keepdims=True)
    high = jnp.where(legal, q, -jnp.inf).max((-2, -1), keepdims=True)
    return jnp.where(legal, q, jnp.where(own[..., :, None], high + 1, low - 1))


def policy_values(
    game: StochasticGame, strategies: tuple[Float[np.ndarray, "_ _"], ...], *, discount: float | None = None
) -> Float[np.ndarray, "state player"]:
    """The exact discounted return of each state under stationary strategies, by a linear system."""
    gamma = game.discount if discount is None else discount
    weight = np.ones((game.states, *([1] * game.players)))
    for i, strategy in enumerate(strategies):
        shape = [game.states] + [1] * game.players
        shape[1 + i] = strategy.shape[1]
        weight = weight * strategy.reshape(shape)
    joint = weight[..., None] * game.probability
    chain = np.zeros((game.states, game.states))
    index = np.indices(game.outcome.shape)[0]
    np.add.at(chain, (index.reshape(-1), game.outcome.reshape(-1)), joint.reshape(-1))
    axes = tuple(range(1, joint.ndim))
    reward = (joint[..., None] * game.reward).sum(axes)
    live = ~game.terminal
    chain, reward = chain * live[:, None] * live[None], reward * live[:, None]
    return np.linalg.solve(np.eye(game.states) - gamma * chain, reward)


def best_response(
    game: StochasticGame,
    strategy: Float[np.ndarray, "state action"],
    player: int,
    *,
    discount: float | None = None,
    tolerance: float = 1e-12,
) -> tuple[Float[np.ndarray, " state"], Float[np.ndarray, "state action"]]:
    """The value and a pure stationary best response of `player` in a two-player game to the other's strategy."""
    gamma = game.discount if discount is None else discount
    outcome, probability, reward = game.outcome, game.probability, game.reward[..., player]
    if player == 1:
        outcome, probability, reward = (np.swapaxes(x, 1, 2) for x in (outcome, probability, reward))
    weight = strategy[:, None, :, None] * probability  # [state, own action, other action, outcome]
    value = np.zeros(game.states)
    while True:
        future = np.where(game.terminal, 0.0, value)
        q = (weight * (reward + gamma * future[outcome])).sum((-2, -1))
        q = np.where(game.legal[player], q, -np.inf)
        new = np.where(game.terminal, 0.0, q.max(1))
        if np.abs(new - value).max() <= tolerance * max(1.0, np.abs(new).max()):
            return new, np.eye(q.shape[1])[q.argmax(1)]
        value = new
