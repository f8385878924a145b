"""Equilibria of normal-form games, exactly, on the host: linear programs, support enumeration, Lemke–Howson.

A game is a payoff tensor `[actions of player 0, …, actions of player n−1, player]`; two-player functions take the two
players' matrices, rows being player 0's actions in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy  # its parts are imported when they are used, which takes a while
from jaxtyping import Float, Real

from ludus.core.errors import UsageError
from ludus.core.payoffs import check_payoffs

Matrix = Real[np.ndarray, "row column"]
Mixture = Float[np.ndarray, "_"]  # of any player, so that its length is nobody else's


def solve_zero_sum(matrix: Matrix) -> tuple[Mixture, Mixture, float]:
    """A maximin strategy of each player, and the value to the row player, who gets `matrix`."""
    matrix = np.asarray(matrix, float)
    x, value = _maximin(matrix)
    y, _ = _maximin(-matrix.T)
    return x, y, value


def _maximin(matrix: Matrix) -> tuple[Mixture, float]:
    rows, columns = matrix.shape
    found = scipy.optimize.linprog(
        np.append(np.zeros(rows), -1.0),
        A_ub=np.hstack([-matrix.T, np.ones((columns, 1))]),
        b_ub=np.zeros(columns),
        A_eq=np.append(np.ones(rows), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * rows + [(None, None)],
        method="highs",
    )
    if found.status != 0:
        raise ArithmeticError(f"the linear program of a {rows} × {columns} game failed: {found.message}")
    x = np.maximum(found.x[:-1], 0)
    return x / x.sum(), float(found.x[-1])


def support_enumeration(row: Matrix, column: Matrix, tolerance: float = 1e-9) -> Iterator[tuple[Mixture, Mixture]]:
    """Equilibria by supports of equal size, small ones first; all of them in a non-degenerate game."""
    row, column = np.asarray(row, float), np.asarray(column, float)
    rows, columns = row.shape
    for size in range(1, min(rows, columns) + 1):
        for own, other in product(combinations(range(rows), size), combinations(range(columns), size)):
            y = _indifferent(row[np.ix_(own, other)])
            x = _indifferent(column[np.ix_(own, other)].T)
            if x is None or y is None or x[0].min() < -tolerance or y[0].min() < -tolerance:
                continue
            p, q = np.zeros(rows), np.zeros(columns)
            p[list(own)], q[list(other)] = np.maximum(x[0], 0), np.maximum(y[0], 0)
            if (row @ q).max() <= y[1] + tolerance and (p @ column).max() <= x[1] + tolerance:
                yield p / p.sum(), q / q.sum()


def _indifferent(matrix: Matrix) -> tuple[Mixture, float] | None:
    """The mixture over columns that makes all rows earn the same, and what they earn."""
    size = len(matrix)
    system = np.zeros((size + 1, size + 1))
    system[:size, :size], system[:size, size], system[size, :size] = matrix, -1.0, 1.0
    if np.linalg.cond(system) > 1e12:
        return None
    solution = np.linalg.solve(system, np.append(np.zeros(size), 1.0))
    return solution[:size], float(solution[size])


def lemke_howson(row: Matrix, column: Matrix, label: int = 0) -> tuple[Mixture, Mixture]:
    """One equilibrium, along the path that drops `label`; lexicographic pivots, so degenerate games end too."""
    row, column = np.asarray(row, float), np.asarray(column, float)
    rows, columns = row.shape
    labels = rows + columns
    if not 0 <= label < labels:
        raise UsageError(f"a {rows} × {columns} game has labels 0 to {labels - 1}, not {label}")
    # Player 0's polytope in x has one constraint for each column, player 1's in y one for each row.
    a = row - row.min() + 1
    b = column - column.min() + 1
    tableaux = [
        np.hstack([b.T, np.eye(columns), np.ones((columns, 1))]),  # variables: labels 0 … rows−1, slacks rows …
        np.hstack([np.eye(rows), a, np.ones((rows, 1))]),  # slacks 0 … rows−1, variables rows …
    ]
    bases = [list(range(rows, labels)), list(range(rows))]
    start = [list(base) for base in bases]
    entering, which = label, 0 if label < rows else 1
    while True:
        leaving = _pivot(tableaux[which], bases[which], entering, start[which])
        if leaving == label:
            break
        entering, which = leaving, 1 - which
    x, y = np.zeros(labels), np.zeros(labels)
    x[bases[0]], y[bases[1]] = tableaux[0][:, -1], tableaux[1][:, -1]
    p, q = np.maximum(x[:rows], 0), np.maximum(y[rows:], 0)
    return p / p.sum(), q / q.sum()


def _pivot(tableau: np.ndarray, basis: list[int], entering: int, start: list[int]) -> int:
    """Bring a variable in by the lexicographic minimum ratio; the label that leaves."""
    column = tableau[:, entering]
    ready = np.flatnonzero(column > 1e-12)
    order = tableau[ready][:, [-1, *start]] / column[ready, None]
    r = int(ready[min(range(len(ready)), key=lambda k: tuple(np.round(order[k], 12)))])
    tableau[r] /= tableau[r, entering]
    for other in range(len(tableau)):
        if other != r:
            tableau[other] -= tableau[other, entering] * tableau[r]
    leaving, basis[r] = basis[r], entering
    return leaving


def correlated_equilibrium(
    payoffs: Float[np.ndarray, "..."], *, coarse: bool = False, select: str = "welfare"
) -> Float[np.ndarray, "..."]:
    """A (coarse) correlated equilibrium: joint probabilities `[actions of player 0, …]`.

    `select` is `welfare` (the largest sum of payoffs) or `entropy` (the most even one).
    """
    payoffs = check_payoffs(payoffs)
    if select not in ("welfare", "entropy"):
        raise UsageError(f"select must be 'welfare' or 'entropy', not '{select}'")
    shape = payoffs.shape[:-1]
    size = int(np.prod(shape))
    if size == 1:  # nobody has anything else to do
        return np.ones(shape)
    gains = np.array(list(_deviations(payoffs, coarse)))
    if select == "welfare":
        found = scipy.optimize.linprog(
            -payoffs.sum(-1).reshape(-1),
            A_ub=gains,
            b_ub=np.zeros(len(gains)),
            A_eq=np.ones((1, size)),
            b_eq=[1.0],
            bounds=(0, None),
            method="highs",
        )
        if found.status != 0:
            raise ArithmeticError(f"the linear program of the correlated equilibrium failed: {found.message}")
        joint = np.maximum(found.x, 0)
    else:
        joint = _most_even(gains)
    return (joint / joint.sum()).reshape(shape)


def _most_even(gains: Float[np.ndarray, "constraint joint"]) -> Mixture:
    """Maximum entropy by its dual: p ∝ exp(−λ·gains), λ ≥ 0 (Ortiz et al. 2007)."""
    scale = max(np.abs(gains).max(), 1e-12)
    g = gains / scale

    def dual(weights: np.ndarray) -> tuple[float, np.ndarray]:
        score = -weights @ g
        top = score.max()
        p = np.exp(score - top)
        return float(top + np.log(p.sum())), -(g @ (p / p.sum()))

    found = scipy.optimize.minimize(
        dual,
        np.zeros(len(g)),
        jac=True,
        bounds=[(0, None)] * len(g),
        method="L-BFGS-B",
        options={"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-15, "gtol": 1e-10},
    )
    score = -found.x @ g
    p = np.exp(score - score.max())
    return p / p.sum()


def _deviations(payoffs: np.ndarray, coarse: bool) -> Iterator[np.ndarray]:
    """For each rule of deviating, what it gains at each joint action."""
    shape, players = payoffs.shape[:-1], payoffs.shape[-1]
    for i in range(players):
        own = np.moveaxis(payoffs[..., i], i, 0)
        for instead in range(shape[i]):
            gain = own[instead][None] - own
            if coarse:
                yield np.moveaxis(gain, 0, i).reshape(-1)
                continue
            for told in range(shape[i]):
                if told != instead:
                    only = np.zeros_like(gain)
                    only[told] = gain[told]
                    yield np.moveaxis(only, 0, i).reshape(-1)


def joint_nash_conv(payoffs: Float[np.ndarray, "..."], joint: Float[np.ndarray, "..."], *, coarse: bool) -> float:
    """The sum over players of the most a (coarse) correlated device leaves to gain."""
    players, total = payoffs.shape[-1], 0.0
    for i in range(players):
        own = np.moveaxis(payoffs[..., i], i, 0)
        p = np.moveaxis(joint, i, 0)
        gain = [
            [(p[told] * (own[instead] - own[told])).sum() for instead in range(len(own))] for told in range(len(own))
        ]
        total += float(np.max(np.sum(gain, 0)) if coarse else np.max(gain, 1).sum())
    return total


def mixed_returns(payoffs: Float[np.ndarray, "..."], mixtures: list[Mixture]) -> Float[np.ndarray, " player"]:
    """Each player's expected payoff."""
    for mixture in mixtures:
        payoffs = np.tensordot(mixture, payoffs, axes=(0, 0))
    return payoffs


def action_values(payoffs: Any, mixtures: Any, player: int) -> Any:
    """What each of a player's actions earns against the others' mixtures: arrays of numpy, or of jax."""
    xp = jnp if isinstance(payoffs, jax.Array) else np
    own = xp.moveaxis(payoffs[..., player], player, 0)
    for j, mixture in enumerate(mixtures):
        if j != player:
            own = xp.tensordot(own, mixture, axes=(1, 0))
    return own


def mixed_nash_conv(payoffs: Any, mixtures: Any) -> Any:
    """The sum over players of what each could gain by deviating alone: arrays of numpy, or of jax."""
    values = [action_values(payoffs, mixtures, i) for i in range(len(mixtures))]
    return sum(q.max() - q @ mixture for q, mixture in zip(values, mixtures, strict=True))
