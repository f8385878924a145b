"""Solve a game given by its payoffs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ludus.core.errors import UsageError
from ludus.core.payoffs import is_zero_sum
from ludus.equilibria import dynamics, normal_form
from ludus.equilibria.alpha_rank import alpha_rank
from ludus.experiment.solution import Ask, Point, Solution, solution

MATRIX = (
    "lp",
    "support-enumeration",
    "lemke-howson",
    "fictitious-play",
    "regret-matching",
    "regret-matching+",
    "replicator",
    "projected-replicator",
    "alpha-rank",
    "qre",
    "ce",
    "ce-entropy",
    "cce",
    "cce-entropy",
)


def solve_matrix(name: str, payoffs: np.ndarray, method: str, ask: Ask) -> Solution:
    """By a method of `MATRIX`."""
    if method not in MATRIX:
        raise UsageError(f"'{method}' solves stochastic games, and {name} is a matrix; try lp or cfr+")
    players = payoffs.shape[-1]
    if method == "lp" and not is_zero_sum(payoffs):
        raise UsageError(
            f"'lp' solves two-player zero-sum games, which {name} is not; try support-enumeration, or ce for any number"
        )
    if method in ("support-enumeration", "lemke-howson") and players != 2:
        raise UsageError(f"'{method}' solves two-player games, and {name} has {players} players; try regret-matching")
    begin = time.monotonic()
    extra: dict[str, Any] = {}
    if method == "lp":
        x, y, _ = normal_form.solve_zero_sum(payoffs[..., 0])
        mixtures = [x, y]
    elif method == "support-enumeration":
        found = list(normal_form.support_enumeration(payoffs[..., 0], payoffs[..., 1]))
        if not found:
            x, y = normal_form.lemke_howson(payoffs[..., 0], payoffs[..., 1])
            found = [(x, y)]
        extra["equilibria"] = [[list(map(float, x)), list(map(float, y))] for x, y in found]
        mixtures = list(max(found, key=lambda pair: float(normal_form.mixed_returns(payoffs, list(pair)).sum())))
    elif method == "lemke-howson":
        mixtures = list(normal_form.lemke_howson(payoffs[..., 0], payoffs[..., 1]))
    elif method in ("ce", "ce-entropy", "cce", "cce-entropy", "alpha-rank"):
        return _solve_joint(name, payoffs, method, begin)
    else:
        return _iterate_matrix(name, payoffs, method, ask)
    seconds = time.monotonic() - begin
    value = normal_form.mixed_returns(payoffs, mixtures)
    gap = normal_form.mixed_nash_conv(payoffs, mixtures)
    solved = solution(name, method, value, gap, 1, seconds, 0.0, {f"player_{i}": m for i, m in enumerate(mixtures)})
    solved.extra = extra
    return solved


def _solve_joint(name: str, payoffs: np.ndarray, method: str, begin: float) -> Solution:
    """Methods whose answer is a distribution over joint actions."""
    players = payoffs.shape[-1]
    if method == "alpha-rank":
        joint, gap = alpha_rank(payoffs, alpha=10.0), None
    else:
        coarse = method.startswith("cce")
        select = "entropy" if method.endswith("entropy") else "welfare"
        joint = normal_form.correlated_equilibrium(payoffs, coarse=coarse, select=select)
        gap = normal_form.joint_nash_conv(payoffs, joint, coarse=coarse)
    seconds = time.monotonic() - begin
    value = (joint[..., None] * payoffs).sum(tuple(range(players)))
    solved = solution(name, method, value, gap, 1, seconds, 0.0, {"joint": joint})
    solved.extra = {"joint": joint.tolist(), "convention": "nash_conv: the sum of what each gains by deviating"}
    return solved


def _iterate_matrix(name: str, payoffs: np.ndarray, method: str, ask: Ask) -> Solution:
    """Dynamics: each look runs anew to its number of iterations, so that a look costs what it shows."""
    tensor = jnp.asarray(payoffs)
    uniform = dynamics.uniform(tensor)
    temperature = 0.1 if ask.temperature is None else ask.temperature
    runs: dict[str, Callable[[Any], Any]] = {
        "fictitious-play": lambda n: dynamics.fictitious_play(tensor, n),
        "regret-matching": lambda n: dynamics.regret_matching(tensor, n),
        "regret-matching+": lambda n: dynamics.regret_matching(tensor, n, plus=True),
        "replicator": lambda n: dynamics.replicator(tensor, uniform, n, average=True),
        "projected-replicator": lambda n: dynamics.replicator(tensor, uniform, n, floor=1e-3, average=True),
        "qre": lambda n: dynamics.logit_qre(tensor, temperature, n),
    }
    begin = time.monotonic()
    jax.block_until_ready(runs[method](1))
    compiled = time.monotonic() - begin
    curve: list[Point] = []
    mixtures: list[np.ndarray] = []
    n = 1
    while True:
        n = min(n, ask.iterations)
        begin = time.monotonic()
        mixtures = [np.asarray(m) for m in jax.block_until_ready(runs[method](n))]
        curve.append(Point(n, time.monotonic() - begin, normal_form.mixed_nash_conv(payoffs, mixtures)))
        ask.watch(curve[-1])
        reached = ask.target is not None and curve[-1].nash_conv / payoffs.shape[-1] <= ask.target
        if n >= ask.iterations or reached:
            break
        n *= 2
    value = normal_form.mixed_returns(payoffs, mixtures)
    found = {f"player_{i}": m for i, m in enumerate(mixtures)}
    last = curve[-1]
    return solution(name, method, value, last.nash_conv, last.iteration, last.seconds, compiled, found, curve)
