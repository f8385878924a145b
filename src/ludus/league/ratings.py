"""How strong frozen policies are: Elo, Nash averaging, α-rank. All are computed from the payoff table."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy  # its parts are imported when they are used, which takes a while
from jaxtyping import Float

from ludus.equilibria.alpha_rank import alpha_rank, alpha_rank_symmetric
from ludus.equilibria.normal_form import solve_zero_sum
from ludus.league.payoffs import PayoffTable
from ludus.league.population import Population

MOST = 400  # α-rank of more joint choices than this is left out: its chain has a state for each


def elo(scores: Float[np.ndarray, "own other"], games: Float[np.ndarray, "own other"]) -> Float[np.ndarray, " own"]:
    """Elo ratings by maximum likelihood (Bradley–Terry with a weak prior), their mean 0.

    `scores` are the shares that row won against column, draws counted half; a difference of 200 wins 0.75975.
    """
    weight = np.minimum(np.where(np.isinf(games), 1e3, games), 1e3)
    np.fill_diagonal(weight, 0.0)

    def loss(ratings: np.ndarray) -> tuple[float, np.ndarray]:
        expected = expected_score(ratings[:, None] - ratings[None])
        cost = -(weight * (scores * np.log(expected + 1e-12) + (1 - scores) * np.log(1 - expected + 1e-12))).sum()
        slope = np.log(10) / 400 * (weight * (expected - scores))
        return float(cost + 1e-5 * (ratings**2).sum()), slope.sum(1) - slope.sum(0) + 2e-5 * ratings

    found = scipy.optimize.minimize(
        loss, np.zeros(len(scores)), jac=True, method="L-BFGS-B", options={"maxiter": 2000}
    ).x
    return found - found.mean()


def expected_score(difference: Any) -> Any:
    """What share of games a rating difference wins."""
    return 1 / (1 + 10 ** np.clip(-np.asarray(difference) / 400, -300, 300))


def nash_average(scores: Float[np.ndarray, "own other"]) -> Float[np.ndarray, " own"]:
    """Nash averaging (Balduzzi et al. 2018): what each wins against the Nash equilibrium of the meta-game."""
    matrix = scores - 0.5
    x, y, _ = solve_zero_sum(matrix)
    return matrix @ ((x + y) / 2)


def ratings(
    population: Population, table: PayoffTable, teams: tuple[str, ...], roles: dict[str, str]
) -> dict[str, dict[str, float]]:
    """Of all frozen policies: Elo, and of populations that play all seats Nash averages and α-rank too.

    Where roles differ, Elo compares all policies of all roles with those that they met.
    """
    names = [e.name for e in population]
    shared = len(set(roles.values())) == 1
    size = len(names)
    scores, games = np.full((size, size), 0.5), np.zeros((size, size))
    known = {name for profile in table.cells for name in profile}
    for i, own in enumerate(names):
        for j, other in enumerate(names):
            if own in known and other in known:
                games[i, j], scores[i, j] = table.between(own, other)
    np.fill_diagonal(scores, 0.5)  # whatever a seat is worth: of the same two one wins and the other loses
    found = {"elo": dict(zip(names, elo(scores, games).tolist(), strict=True))}
    if shared and size > 1 and len(teams) == 2:
        found["nash_average"] = dict(zip(names, nash_average(scores).tolist(), strict=True))
        if size <= MOST:
            found["alpha_rank"] = dict(zip(names, alpha_rank_symmetric(scores, alpha=10.0).tolist(), strict=True))
    elif not shared:
        own_names = [[e.name for e in population.of(roles[t])] for t in teams]
        if np.prod([len(x) for x in own_names]) <= MOST:
            stationary = alpha_rank(table.tensor(own_names)[0], alpha=10.0)
            rank: dict[str, float] = {}
            for axis, own_list in enumerate(own_names):
                others = tuple(a for a in range(stationary.ndim) if a != axis)
                rank.update(zip(own_list, stationary.sum(others).tolist(), strict=True))
            found["alpha_rank"] = rank
    return found
