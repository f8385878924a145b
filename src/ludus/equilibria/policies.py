"""Any policy, neural and recurrent ones included, as an exact strategy of a game tree."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ludus.core.errors import UsageError
from ludus.core.policy import Policy, Stochastic
from ludus.core.tree import GameTree
from ludus.equilibria.sequence_form import SequenceForm, Strategies


def tabulate(
    game: SequenceForm,
    tree: GameTree,
    policies: Policy | Sequence[Policy],
    *,
    explore: bool = True,
    agents: Sequence[int] | None = None,
) -> Strategies:
    """The behavioural strategies of policies that see `tree.observation`, evaluated on all information sets at once.

    One policy plays every seat, or each seat has its own. A recurrent policy sees a player's observations in the
    order in which he makes them, so memory is carried along his own past, one level at a time. `agents` are the
    players' numbers within their groups, where each has a group of its own.
    """
    seats = [policies] * game.players if isinstance(policies, Stochastic) else list(policies)  # type: ignore[arg-type]
    if len(seats) != game.players:
        raise UsageError(f"{game.name} has {game.players} players, but {len(seats)} policies were given")
    actions = tree.actions()
    strategies = []
    for i, (side, policy) in enumerate(zip(game.sides, seats, strict=True)):
        if not isinstance(policy, Stochastic):
            raise UsageError(
                f"{type(policy).__name__} does not show its distribution, so it cannot be evaluated exactly"
            )
        order = np.asarray(side.infosets)
        observation, legal = jnp.asarray(tree.observation[order]), jnp.asarray(tree.legal[order])
        slots = jnp.asarray(np.maximum(actions[order][:, : side.shape[1]], 0))
        width = side.shape[1]
        rows, above = [], policy.initial_memory((1, 1))
        for d, ((begin, end), parent) in enumerate(zip(side.levels, side.parents, strict=True)):
            source = jnp.zeros_like(parent) if d == 0 else parent // width
            memory = jax.tree.map(lambda m, s=source: m[s], above)
            seat = jnp.full((end - begin, 1), i if agents is None else agents[i], jnp.int32)
            distribution, above = policy.distribution(
                observation[begin:end, None], legal[begin:end, None], memory, explore=explore, agent=seat
            )
            rows.append(jnp.exp(distribution.log_probs[:, 0]))
        table = jnp.concatenate(rows) if rows else jnp.zeros((0, tree.num_actions))
        strategies.append(_pick(table, slots, side.legal, game.payoff.dtype))
    return tuple(strategies)


def _pick(table: Array, slots: Array, legal: Array, dtype: np.dtype) -> Array:
    """From actions to slots, normalised in the game's precision."""
    row = jnp.where(legal, jnp.take_along_axis(table, slots, 1), 0).astype(dtype)
    return row / row.sum(1, keepdims=True)


def to_actions(tree: GameTree, game: SequenceForm, strategies: Strategies) -> np.ndarray:
    """Strategies as probabilities `[information set of the tree, action]`."""
    actions = tree.actions()
    table = np.zeros(tree.legal.shape)
    for side, strategy in zip(game.sides, strategies, strict=True):
        order = np.asarray(side.infosets)
        for k in range(side.shape[1]):
            at = actions[order, k] >= 0
            table[order[at], actions[order[at], k]] = np.asarray(strategy)[at, k]
    return table


def from_actions(tree: GameTree, game: SequenceForm, table: np.ndarray) -> Strategies:
    """The strategies of probabilities `[information set of the tree, action]`."""
    actions = tree.actions()
    strategies = []
    for side in game.sides:
        order = np.asarray(side.infosets)
        slots = actions[order][:, : side.shape[1]]
        row = np.where(slots >= 0, np.take_along_axis(table[order], np.maximum(slots, 0), 1), 0.0)
        strategies.append(jnp.asarray(row, game.payoff.dtype))
    return tuple(strategies)
