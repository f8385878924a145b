"""Solve a game: one entry for trees, matrices and stochastic games."""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np

from ludus.core.errors import UsageError, unknown
from ludus.core.game import Environment
from ludus.core.payoffs import check_payoffs, is_zero_sum
from ludus.core.stochastic import StochasticGame
from ludus.core.tree import GameTree, tree_of_payoffs
from ludus.envs.matrix import MatrixGame
from ludus.envs.registry import make
from ludus.equilibria import shapley
from ludus.experiment.solution import Ask, Solution, Watch, solution
from ludus.experiment.solve_matrix import MATRIX, solve_matrix
from ludus.experiment.solve_tree import TREE, solve_tree

METHODS = (*TREE, *MATRIX, "shapley")


def solve(
    game: str | Environment | GameTree | StochasticGame | np.ndarray | list,
    method: str | None = None,
    *,
    iterations: int = 1000,
    target_exploitability: float | None = None,
    seed: int = 0,
    temperature: float | None = None,
    options: dict[str, Any] | None = None,
    watch: Watch | None = None,
) -> Solution:
    """Solve a game by name, an environment, a tree, a stochastic game, or a payoff tensor.

    `method` defaults to cfr+ for trees, lp or support-enumeration for matrices, shapley for stochastic games. It stops
    after `iterations`, or as soon as the exploitability is at most the target. `temperature` is that of mmd and qre.
    Everything runs in double precision. Raises `UsageError` for a method that does not fit.
    """
    if method is not None and method not in METHODS:
        raise unknown("method", method, METHODS)
    if iterations < 1:
        raise UsageError(f"iterations must be at least 1, not {iterations}")
    if target_exploitability is not None and not target_exploitability >= 0:
        raise UsageError(f"target_exploitability must be at least 0, not {target_exploitability}")
    if temperature is not None and not temperature > 0:
        raise UsageError(f"temperature must be above 0, not {temperature}")
    described = _describe(make(game, **(options or {})) if isinstance(game, str) else game)
    ask = Ask(iterations, target_exploitability, seed, temperature, watch or (lambda point: None))
    with jax.enable_x64(True):
        if isinstance(described, StochasticGame):
            return _solve_stochastic(described, method or "shapley", ask)
        if isinstance(described, GameTree):
            return solve_tree(described, method or "cfr+", ask)
        name, payoffs = described
        zero_sum = is_zero_sum(payoffs)
        fallback = "lp" if zero_sum else "support-enumeration" if payoffs.shape[-1] == 2 else "regret-matching"
        chosen = method or fallback
        if chosen in TREE:
            return solve_tree(tree_of_payoffs(payoffs, name), chosen, ask)
        return solve_matrix(name, payoffs, chosen, ask)


def _describe(game: Any) -> GameTree | StochasticGame | tuple[str, np.ndarray]:
    """The exact description of a game."""
    if isinstance(game, GameTree | StochasticGame):
        return game
    if isinstance(game, np.ndarray | list | tuple):
        return "matrix/custom", check_payoffs(game)
    if isinstance(game, MatrixGame):
        if game.rounds != 1:
            raise UsageError(f"{game.spec.name} is repeated; solve its one-shot game, with rounds=1")
        return game.spec.name, check_payoffs(np.asarray(game.payoffs, float))
    tree = getattr(game, "tree", None)
    if isinstance(tree, GameTree):
        return tree
    stochastic = getattr(game, "game", None)
    if isinstance(stochastic, StochasticGame):
        return stochastic
    raise UsageError(
        f"{game.spec.name} cannot be solved exactly: only spiel, matrix and stochastic games are described by arrays"
    )


def _solve_stochastic(game: StochasticGame, method: str, ask: Ask) -> Solution:
    if method != "shapley":
        raise UsageError(f"{game.name} is a stochastic game; only 'shapley' solves those, not '{method}'")
    begin = time.monotonic()
    found = shapley.solve(game, iterations=max(ask.iterations, 1))
    seconds = time.monotonic() - begin
    start = float(game.start @ np.where(game.terminal, 0.0, found.value))
    gap = 0.0
    for player in (0, 1):
        value, _ = shapley.best_response(game, found.strategies[1 - player], player)
        gap += float(game.start @ value)
    strategy = {f"player_{i}": s for i, s in enumerate(found.strategies)}
    solved = solution(game.name, method, [start, -start], gap, found.iterations, seconds, 0.0, strategy)
    solved.extra = {"residual": found.residual, "state_values_at_start": found.value[game.start > 0].tolist()}
    return solved
