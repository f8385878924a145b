"""α-rank (Omidshafiei et al. 2019): how often a population of mutants and selection plays each strategy."""

from __future__ import annotations

from itertools import product

import numpy as np
from jaxtyping import Float, Real

from ludus.core.errors import UsageError
from ludus.core.payoffs import check_payoffs


def alpha_rank(
    payoffs: Float[np.ndarray, "..."], *, alpha: float = 100.0, population: int = 50, perturbation: float = 0.0
) -> Float[np.ndarray, "..."]:
    """The stationary distribution over joint strategies `[actions of player 0, …]`, one population for each player.

    A mutant strategy with advantage Δ takes over a population of m with probability (1−e^{−αΔ})/(1−e^{−mαΔ}). Where
    several classes absorb (large α), a `perturbation` ε mixes in uniform jumps; without one they share equally.
    """
    payoffs = check_payoffs(payoffs)
    shape, players = payoffs.shape[:-1], payoffs.shape[-1]
    size = int(np.prod(shape))
    step = 1.0 / max(1, sum(n - 1 for n in shape))
    chain = np.zeros((size, size))
    for at in product(*(range(n) for n in shape)):
        here = np.ravel_multi_index(at, shape)
        for i in range(players):
            for other in range(shape[i]):
                if other != at[i]:
                    to = (*at[:i], other, *at[i + 1 :])
                    gain = payoffs[to][i] - payoffs[at][i]
                    chain[here, np.ravel_multi_index(to, shape)] = step * fixation(gain, alpha, population)
    return _stationary(chain, perturbation).reshape(shape)


def alpha_rank_symmetric(
    matrix: Real[np.ndarray, "strategy strategy"] | list,
    *,
    alpha: float = 100.0,
    population: int = 50,
    perturbation: float = 0.0,
) -> Float[np.ndarray, " strategy"]:
    """The stationary distribution over strategies of one population, which plays a symmetric two-player game.

    A mutant s in a population of r earns `matrix[s, r]`, a resident against a mutant `matrix[r, s]`.
    """
    matrix = np.asarray(matrix, float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        raise UsageError(f"a symmetric game needs a square matrix of finite payoffs, not shape {matrix.shape}")
    size = len(matrix)
    chain = np.zeros((size, size))
    for r, s in product(range(size), repeat=2):
        if r != s:
            chain[r, s] = fixation(matrix[s, r] - matrix[r, s], alpha, population) / max(1, size - 1)
    return _stationary(chain, perturbation)


def fixation(gain: float, alpha: float, population: int) -> float:
    """The probability that one mutant with this advantage takes over."""
    x = alpha * gain
    if abs(x) < 1e-12:
        return 1.0 / population
    if x > 0:
        return float(-np.expm1(-x) / -np.expm1(-population * x))
    # Written with positive exponents' inverses, so that a great disadvantage gives 0 and not overflow.
    return float(np.exp((population - 1) * x) * np.expm1(x) / np.expm1(population * x)) if x > -700 else 0.0


def _stationary(chain: np.ndarray, perturbation: float) -> np.ndarray:
    size = len(chain)
    np.fill_diagonal(chain, 0.0)
    chain[np.diag_indices(size)] = 1.0 - chain.sum(1)
    if perturbation > 0:
        chain = (1 - perturbation) * chain + perturbation / size
    # The Cesàro limit from the uniform start, by squaring: it exists whatever the classes.
    lazy = 0.5 * (chain + np.eye(size))
    for _ in range(200):
        new = lazy @ lazy
        new /= new.sum(1, keepdims=True)
        if np.abs(new - lazy).max() < 1e-15:
            break
        lazy = new
    return np.full(size, 1.0 / size) @ lazy
