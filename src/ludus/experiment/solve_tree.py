"""Solve a game given by its tree."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from ludus.core.errors import UsageError
from ludus.core.tree import GameTree
from ludus.equilibria import exact
from ludus.equilibria.cfr import CFR, CFRBR, require_zero_sum
from ludus.equilibria.double_oracle import double_oracle
from ludus.equilibria.fictitious_play import XFP
from ludus.equilibria.mirror_descent import MMD
from ludus.equilibria.monte_carlo import MCCFR, TreeArrays
from ludus.equilibria.policies import to_actions
from ludus.equilibria.sequence_form import SequenceForm, sequence_form
from ludus.experiment.solution import Ask, Point, Solution, solution

TREE: dict[str, Callable[[Ask], Any]] = {
    "cfr": lambda ask: CFR(),
    "cfr+": lambda ask: CFR(plus=True, linear=True),
    "linear-cfr": lambda ask: CFR(discounts=(1.0, 1.0, 1.0)),
    "discounted-cfr": lambda ask: CFR(discounts=(1.5, 0.0, 2.0)),
    "cfr-br": lambda ask: CFRBR(),
    "xfp": lambda ask: XFP(),
    "mmd": lambda ask: MMD(temperature=0.1 if ask.temperature is None else ask.temperature),
    "annealed-mmd": lambda ask: MMD(temperature=1.0 if ask.temperature is None else ask.temperature, anneal=True),
    "external-mccfr": lambda ask: MCCFR("external", batch=16),
    "outcome-mccfr": lambda ask: MCCFR("outcome", batch=64),
    "double-oracle": lambda ask: None,
}
ZERO_SUM = ("cfr-br", "mmd", "annealed-mmd", "double-oracle", "lp", "shapley")


def _marks(iterations: int) -> Iterator[int]:
    """How many iterations to run between looks: 1, 2, 5, 10, … of the total, at most a twentieth at once."""
    done, step = 0, 1
    while done < iterations:
        step = max(1, min(int(0.6 * done) or 1, max(iterations // 20, 1)))
        step = min(step, iterations - done)
        done += step
        yield step


def solve_tree(tree: GameTree, method: str, ask: Ask) -> Solution:
    """By a method of `TREE`."""
    if method not in TREE:
        raise UsageError(f"'{method}' solves matrices or stochastic games, and {tree.name} is a tree; try cfr+ or xfp")
    game = sequence_form(tree)
    if method in ZERO_SUM:
        require_zero_sum(game, method)
    if method == "double-oracle":
        return _double_oracle(tree, game, ask)
    solver = TREE[method](ask)
    if isinstance(solver, MCCFR):
        subject: Any = TreeArrays.of(tree)
        state = solver.init(subject, jax.random.key(ask.seed))
        average = lambda s: _by_side(game, solver.average(subject, s))
    else:
        subject = game
        state = solver.init(game)
        average = lambda s: solver.average(game, s)
    step = lambda n, s: jax.lax.fori_loop(0, n, lambda _, x: solver.step(subject, x), s)
    return _iterate(tree, game, method, step, average, state, ask)


def _by_side(game: SequenceForm, table: Any) -> tuple:
    return tuple(table[side.infosets][:, : side.shape[1]] for side in game.sides)


def _iterate(
    tree: GameTree, game: SequenceForm, method: str, step: Any, average: Any, state: Any, ask: Ask
) -> Solution:
    begin = time.monotonic()
    run = jax.jit(step, donate_argnums=1).lower(jnp.asarray(1), state).compile()
    both = jax.jit(lambda s: (exact.nash_conv(game, average(s)), exact.expected_returns(game, average(s))))
    look = both.lower(state).compile()
    compiled = time.monotonic() - begin
    curve: list[Point] = []
    seconds, done = 0.0, 0
    value: Any = None
    for chunk in _marks(ask.iterations):
        begin = time.monotonic()
        state = jax.block_until_ready(run(jnp.asarray(chunk), state))
        seconds += time.monotonic() - begin
        done += chunk
        gap, value = look(state)
        curve.append(Point(done, seconds, float(gap)))
        ask.watch(curve[-1])
        if ask.target is not None and curve[-1].nash_conv / game.players <= ask.target:
            break
    found = to_actions(tree, game, average(state))
    return solution(tree.name, method, value, curve[-1].nash_conv, done, seconds, compiled, found, curve)


def _double_oracle(tree: GameTree, game: SequenceForm, ask: Ask) -> Solution:
    curve: list[Point] = []
    begin = time.monotonic()
    restricted = None
    for done, restricted in enumerate(double_oracle(game), start=1):
        curve.append(Point(done, time.monotonic() - begin, restricted.nash_conv))
        ask.watch(curve[-1])
        if done >= ask.iterations or (ask.target is not None and restricted.nash_conv / 2 <= ask.target):
            break
    assert restricted is not None
    plans = [jnp.asarray(m @ p) for m, p in zip(restricted.mixtures, restricted.plans, strict=True)]
    strategies = tuple(side.strategy(plan) for side, plan in zip(game.sides, plans, strict=True))
    value = exact.plans_returns(game, plans)
    found = to_actions(tree, game, strategies)
    solved = solution(
        tree.name, "double-oracle", value, restricted.nash_conv, len(curve), curve[-1].seconds, 0.0, found, curve
    )
    solved.extra["strategies"] = [len(p) for p in restricted.plans]
    return solved
