"""Small two-player games solved on device, many at once: what Nash-Q and minimax-Q call in their loops.

Everything has fixed shapes, so that it jits and vmaps. Sizes up to about 6 × 6 are what this is for.
"""

from __future__ import annotations

from itertools import combinations, product

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def maximise(
    objective: Float[Array, " variable"],
    matrix: Float[Array, "constraint variable"],
    limit: Float[Array, " constraint"],
) -> tuple[Array, Array, Array]:
    """max c·y with A y ≤ b and y ≥ 0, for b ≥ 0, by the simplex method: the optimum, y, and the constraints' prices.

    y = 0 is where it starts, and the steepest column enters. Ties between rows are broken by a second right-hand side
    of generic numbers, which stands for an infinitesimal perturbation of b: that rules out cycles (Charnes 1952).
    Entries should be of size 1.
    """
    rows, columns = matrix.shape
    dtype = matrix.dtype
    tolerance = float(jnp.finfo(dtype).eps) ** 0.7  # what smaller entries are is rounding
    generic = (0.5 + jnp.arange(1, rows + 1) * 0.6180339887498949 % 1.0).astype(dtype)
    top = jnp.concatenate([matrix, jnp.eye(rows, dtype=dtype), limit[:, None], generic[:, None]], axis=1)
    bottom = jnp.concatenate([-objective, jnp.zeros(rows + 2, dtype)])
    tableau = jnp.concatenate([top, bottom[None]])
    basis = columns + jnp.arange(rows)

    def going(state: tuple[Array, Array, Array]) -> Array:
        tableau, _, pivots = state
        return (tableau[-1, :-2] < -tolerance).any() & (pivots < 32 * (rows + columns))

    def pivot(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        tableau, basis, pivots = state
        entering = jnp.argmin(tableau[-1, :-2])
        column = tableau[:-1, entering]
        able = column > tolerance
        ratio = jnp.where(able, tableau[:-1, -2:].T / jnp.where(able, column, 1), jnp.inf)
        tied = ratio[0] <= ratio[0].min() + tolerance
        leaving = jnp.argmin(jnp.where(tied, ratio[1], jnp.inf))
        row = tableau[leaving] / tableau[leaving, entering]
        tableau = (tableau - tableau[:, entering][:, None] * row[None]).at[leaving].set(row)
        tableau = tableau.at[:-1, -2].set(jnp.maximum(tableau[:-1, -2], 0))
        return tableau, basis.at[leaving].set(entering), pivots + 1

    tableau, basis, _ = jax.lax.while_loop(going, pivot, (tableau, basis, jnp.asarray(0)))
    y = jnp.zeros(rows + columns, dtype).at[basis].set(tableau[:-1, -2])[:columns]
    return tableau[-1, -2], y, tableau[-1, columns:-2]


def zero_sum_value(matrix: Float[Array, "row column"]) -> tuple[Array, Array, Array]:
    """The row player's value, and a maximin strategy of each player.

    With payoffs shifted to be positive, max Σy with By ≤ 1 is the column player's problem and its prices are the row
    player's strategy (Dantzig 1951).
    """
    rows, columns = matrix.shape
    low = matrix.min()
    scale = jnp.maximum(matrix.max() - low, jnp.finfo(matrix.dtype).tiny ** 0.5)
    shifted = (matrix - low) / scale + 1.0
    optimum, y, x = maximise(jnp.ones(columns, matrix.dtype), shifted, jnp.ones(rows, matrix.dtype))
    x, y = jnp.maximum(x, 0), jnp.maximum(y, 0)
    return (1.0 / optimum - 1.0) * scale + low, x / x.sum(), y / y.sum()


def correlated_equilibrium(payoffs: Float[Array, "row column player"]) -> Float[Array, "row column"]:
    """The correlated equilibrium of two players with the largest sum of payoffs: joint probabilities.

    The constraints on deviating are homogeneous, so that probabilities may add up to at most 1 and 0 is feasible;
    payoffs are shifted to be positive, so that the optimum uses all of it.
    """
    rows, columns = payoffs.shape[:2]
    low = payoffs.min((0, 1))
    scale = jnp.maximum((payoffs - low).max(), jnp.finfo(payoffs.dtype).tiny ** 0.5)
    u = (payoffs - low) / scale
    told_row = u[None, :, :, 0] - u[:, None, :, 0]  # [told, instead, column]
    gains_row = jnp.eye(rows)[:, None, :, None] * told_row[:, :, None, :]  # [told, instead, row, column]
    told_column = u[:, None, :, 1] - u[:, :, None, 1]  # [row, told, instead]
    gains_column = jnp.einsum("rti,tc->tirc", told_column, jnp.eye(columns))
    gains = jnp.concatenate([gains_row.reshape(-1, rows * columns), gains_column.reshape(-1, rows * columns)])
    matrix = jnp.concatenate([gains.astype(u.dtype), jnp.ones((1, rows * columns), u.dtype)])
    limit = jnp.zeros(matrix.shape[0], u.dtype).at[-1].set(1.0)
    _, joint, _ = maximise(u.sum(-1).reshape(-1) + 1.0, matrix, limit)
    joint = jnp.maximum(joint, 0)
    return (joint / joint.sum()).reshape(rows, columns)


def general_sum_equilibrium(
    row: Float[Array, "row column"], column: Float[Array, "row column"]
) -> tuple[Array, Array, Array, Array]:
    """A Nash equilibrium of a two-player game: both mixtures and both players' payoffs.

    Selection: of the equilibria with supports of equal size, the one with the largest sum of payoffs; among those
    that are equal within rounding, the first, with small supports first and then by lowest actions. The same
    inputs give the same equilibrium to every agent. Degenerate games are covered: a support may hold actions that
    are played with probability 0.
    """
    own, other = _supports(*row.shape)
    dtype = row.dtype
    scale = jnp.maximum(jnp.maximum(jnp.abs(row).max(), jnp.abs(column).max()), 1e-6)
    a, b = row / scale, column / scale
    tolerance = 1e-4 if dtype == jnp.float32 else 1e-9
    y, row_value = jax.vmap(lambda s, t: _indifferent(a, s, t))(own, other)
    x, column_value = jax.vmap(lambda s, t: _indifferent(b.T, t, s))(own, other)
    fits = (x.min(1) >= -tolerance) & (y.min(1) >= -tolerance)
    x, y = jnp.maximum(x, 0), jnp.maximum(y, 0)
    x, y = x / x.sum(1, keepdims=True), y / y.sum(1, keepdims=True)
    fits &= ((y @ a.T).max(1) <= row_value + tolerance) & ((x @ b).max(1) <= column_value + tolerance)
    fits &= jnp.isfinite(row_value) & jnp.isfinite(column_value)
    welfare = jnp.where(fits, row_value + column_value, -jnp.inf)
    best = jnp.argmax(welfare >= welfare.max() - 10 * tolerance)
    x, y = x[best], y[best]
    return x, y, x @ row @ y, x @ column @ y


def _supports(rows: int, columns: int) -> tuple[Array, Array]:
    """All pairs of supports of equal size, as masks."""
    own, other = [], []
    for size in range(1, min(rows, columns) + 1):
        for s, t in product(combinations(range(rows), size), combinations(range(columns), size)):
            own.append(np.isin(np.arange(rows), s))
            other.append(np.isin(np.arange(columns), t))
    return jnp.asarray(np.array(own)), jnp.asarray(np.array(other))


def _indifferent(matrix: Array, own: Array, other: Array) -> tuple[Array, Array]:
    """The mixture over the columns in `other` that makes the rows in `own` earn the same, and what they earn."""
    rows, columns = matrix.shape
    size = max(rows, columns) + 1
    # Unknowns: the columns' probabilities, padding, the value. Rows out of the support demand nothing; each column
    # out of its support, and each padding unknown, takes one of those equations to be 0.
    first = jnp.zeros((rows, size), matrix.dtype).at[:, :columns].set(jnp.where(other, matrix, 0)).at[:, -1].set(-1)
    equations = jnp.zeros((size, size), matrix.dtype)
    absent = jnp.concatenate([~other, jnp.ones(size - 1 - columns, bool)])  # unknowns that must be 0
    free = jnp.concatenate([~own, jnp.ones(size - 1 - rows, bool)])  # equations that demand nothing
    padded = jnp.concatenate([first, jnp.zeros((size - 1 - rows, size), matrix.dtype)])
    rank = jnp.cumsum(absent) - 1
    place = jnp.cumsum(free) - 1
    pins = jnp.where(absent[None] & (rank[None] == place[:, None]), 1.0, 0.0).astype(matrix.dtype)
    pins = jnp.concatenate([pins, jnp.zeros((size - 1, 1), matrix.dtype)], axis=1)
    equations = equations.at[:-1].set(jnp.where(free[:, None], pins, padded))
    equations = equations.at[-1, :columns].set(jnp.where(other, 1.0, 0.0).astype(matrix.dtype))
    target = jnp.zeros(size, matrix.dtype).at[-1].set(1.0)
    solution = _solve(equations, target)
    return solution[:columns], solution[-1]


def _solve(matrix: Array, target: Array) -> Array:
    """Gauss–Jordan elimination with partial pivots; NaN where the system is singular. Small and batched, it beats
    a library call for each system."""
    size = matrix.shape[0]
    table = jnp.concatenate([matrix, target[:, None]], axis=1)
    small = 64 * jnp.finfo(matrix.dtype).eps
    for k in range(size):
        column = jnp.where(jnp.arange(size) >= k, jnp.abs(table[:, k]), -1.0)
        pivot = jnp.argmax(column)
        top, chosen = table[k], table[pivot]
        table = table.at[pivot].set(top).at[k].set(chosen)
        divisor = jnp.where(jnp.abs(chosen[k]) > small, chosen[k], jnp.nan)
        row = chosen / divisor
        table = (table - table[:, k][:, None] * row[None]).at[k].set(row)
    return table[:, -1]
