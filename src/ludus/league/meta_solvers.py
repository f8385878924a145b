"""Meta-solvers: from what policies earn against each other to how often each should be played.

A meta-solver is a function of the payoffs `[policy of team 0, …, team]`, the games behind each cell, and how often
each policy was frozen; it gives one mixture for each team, or a joint distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ludus.core.errors import unknown
from ludus.core.payoffs import is_zero_sum
from ludus.equilibria import dynamics
from ludus.equilibria.alpha_rank import alpha_rank
from ludus.equilibria.normal_form import (
    Mixture,
    correlated_equilibrium,
    lemke_howson,
    mixed_nash_conv,
    solve_zero_sum,
    support_enumeration,
)

Payoffs = Float[np.ndarray, "..."]
MOST_ENUMERATED = 12  # policies whose supports are enumerated
ITERATIONS = 10_000  # of learning dynamics


@dataclass(frozen=True)
class Meta:
    """How often each policy is played: a mixture for each team, and where they are correlated, the joint."""

    mixtures: tuple[Mixture, ...]
    joint: Float[np.ndarray, "..."] | None = None
    told: bool = False  # whether players may leave what they were told, each policy by itself (CE), or all or nothing

    @staticmethod
    def of_joint(joint: Float[np.ndarray, "..."], *, told: bool = False) -> Meta:
        """With its marginals."""
        axes = range(joint.ndim)
        return Meta(tuple(joint.sum(tuple(a for a in axes if a != team)) for team in axes), joint, told)


MetaSolver = Callable[[Payoffs, Payoffs, list[np.ndarray]], Meta]


def uniform(payoffs: Payoffs, games: Payoffs, counts: list[np.ndarray]) -> Meta:
    """All alike, those frozen several times counted as often: averages, as in fictitious play."""
    return Meta(tuple(c / c.sum() for c in counts))


def last(payoffs: Payoffs, games: Payoffs, counts: list[np.ndarray]) -> Meta:
    """Only the newest."""
    return Meta(tuple(np.eye(n)[-1] for n in payoffs.shape[:-1]))


def nash(payoffs: Payoffs, games: Payoffs, counts: list[np.ndarray]) -> Meta:
    """A Nash equilibrium: by linear programs (zero-sum), Lemke–Howson (two players), else by regret matching."""
    if payoffs.shape[-1] != 2:
        return regret_matching(payoffs, games, counts)
    row, column = payoffs[..., 0], payoffs[..., 1]
    if is_zero_sum(payoffs):
        x, y, _ = solve_zero_sum(row)
        return Meta((x, y))
    if row.shape[0] == row.shape[1] <= MOST_ENUMERATED and np.allclose(row, column.T):
        for x, y in support_enumeration(row, column):  # of a symmetric game an equilibrium that is the same for both
            if np.allclose(x, y, atol=1e-6):
                return Meta((x, y))
    x, y = lemke_howson(row, column)
    if not (np.isfinite(x).all() and np.isfinite(y).all() and mixed_nash_conv(payoffs, [x, y]) < 1e-6):
        x, y = next(support_enumeration(row, column))
    return Meta((x, y))


def fictitious_play(payoffs: Payoffs, games: Payoffs, counts: list[np.ndarray]) -> Meta:
    """Brown's averages."""
    return _dynamics(dynamics.fictitious_play(_device(payoffs), ITERATIONS))


def regret_matching(payoffs: Payoffs, games: Payoffs, counts: list[np.ndarray]) -> Meta:
    """Averages of regret matching."""
    return _dynamics(dynamics.regret_matching(_device(payoffs), ITERATIONS))


def replicator(payoffs: Payoffs, games: Payoffs, counts: list[np.ndarray]) -> Meta:
    """Time averages of replicator dynamics."""
    return _replicator(payoffs, 0.0)


def projected_replicator(payoffs: Payoffs, games: Payoffs, counts: list[np.ndarray]) -> Meta:
    """Projected replicator dynamics (Lanctot et al. 2017): nobody is played less than 0.01 / policies."""
    return _replicator(payoffs, 0.01 / max(payoffs.shape[:-1]))


def _replicator(payoffs: Payoffs, floor: float) -> Meta:
    device = _device(payoffs)
    scale = max(1.0, float(np.abs(payoffs).max()))
    return _dynamics(
        dynamics.replicator(device / scale, dynamics.uniform(device), ITERATIONS, 1e-1, floor, average=True)
    )


def alpha_ranks(payoffs: Payoffs, games: Payoffs, counts: list[np.ndarray]) -> Meta:
    """α-rank's stationary distribution over joint choices."""
    return Meta.of_joint(alpha_rank(payoffs))


def ce(payoffs: Payoffs, games: Payoffs, counts: list[np.ndarray]) -> Meta:
    """The most even correlated equilibrium (Marris et al. 2021)."""
    return Meta.of_joint(correlated_equilibrium(payoffs, select="entropy"), told=True)


def cce(payoffs: Payoffs, games: Payoffs, counts: list[np.ndarray]) -> Meta:
    """The most even coarse correlated equilibrium."""
    return Meta.of_joint(correlated_equilibrium(payoffs, coarse=True, select="entropy"))


META_SOLVERS: dict[str, MetaSolver] = {
    "uniform": uniform,
    "last": last,
    "nash": nash,
    "fictitious-play": fictitious_play,
    "regret-matching": regret_matching,
    "replicator": replicator,
    "projected-replicator": projected_replicator,
    "alpha-rank": alpha_ranks,
    "ce": ce,
    "cce": cce,
}


def meta_solver(name: str) -> MetaSolver:
    """By name."""
    if name not in META_SOLVERS:
        raise unknown("meta-solver", name, META_SOLVERS)
    return META_SOLVERS[name]


def _device(payoffs: Payoffs) -> jnp.ndarray:
    return jnp.asarray(payoffs, jnp.float32)


def _dynamics(mixtures: tuple) -> Meta:
    found = [np.asarray(m, float) for m in mixtures]
    return Meta(tuple(m / m.sum() for m in found))
