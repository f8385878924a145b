"""Solve a game: one table of methods for trees, matrices and stochastic games."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ludus.core.errors import UsageError, unknown
from ludus.core.game import Environment
from ludus.core.stochastic import StochasticGame
from ludus.core.tree import GameTree, tree_of_payoffs
from ludus.envs.matrix import MatrixGame
from ludus.envs.registry import make
from ludus.equilibria import dynamics, exact, normal_form, shapley
from ludus.equilibria.alpha_rank import alpha_rank
from ludus.equilibria.cfr import CFR, CFRBR, require_zero_sum
from ludus.equilibria.double_oracle import double_oracle
from ludus.equilibria.fictitious_play import XFP
from ludus.equilibria.mirror_descent import MMD
from ludus.equilibria.monte_carlo import MCCFR, TreeArrays
from ludus.equilibria.policies import to_actions
from ludus.equilibria.sequence_form import SequenceForm, sequence_form
from ludus.storage.arrays import flatten, write_arrays
from ludus.storage.files import write_atomically


@dataclass
class Point:
    """One moment of convergence."""

    iteration: int
    seconds: float
    nash_conv: float


@dataclass
class Solution:
    """What a method found. `exploitability` is NashConv / players; times are without compilation."""

    game: str
    method: str
    value: list[float]  # expected return of each player
    nash_conv: float | None
    exploitability: float | None
    iterations: int
    seconds: float
    compile_seconds: float
    strategy: Any  # trees: [infoset, action]; matrices: mixtures, or joint probabilities; stochastic: [state, action]
    curve: list[Point] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the strategy."""
        return {
            "game": self.game,
            "method": self.method,
            "value": self.value,
            "nash_conv": self.nash_conv,
            "exploitability": self.exploitability,
            "iterations": self.iterations,
            "seconds": self.seconds,
            "iterations_per_second": self.iterations / self.seconds if self.seconds > 0 else None,
            "compile_seconds": self.compile_seconds,
            **self.extra,
        }

    def save(self, directory: Path) -> None:
        """`strategy.safetensors`, `result.json`, and `convergence.png` where there is a curve to draw."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the directory {directory}: {error.strerror}") from error
        write_arrays(
            directory / "strategy.safetensors",
            flatten(self.strategy),
            {"kind": "strategy", "game": self.game, "method": self.method},
        )
        curve = [vars(point) for point in self.curve]
        write_atomically(directory / "result.json", json.dumps({**self.to_dict(), "curve": curve}, indent=1).encode())
        if len(self.curve) > 1:
            _draw(self, directory / "convergence.png")


Watch = Callable[[Point], None]


@dataclass(frozen=True)
class Ask:
    """What a method is told."""

    iterations: int
    target: float | None  # exploitability
    seed: int
    temperature: float | None
    watch: Watch


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
            return _solve_tree(described, method or "cfr+", ask)
        name, payoffs = described
        zero_sum = normal_form.is_zero_sum(payoffs)
        fallback = "lp" if zero_sum else "support-enumeration" if payoffs.shape[-1] == 2 else "regret-matching"
        chosen = method or fallback
        if chosen in TREE:
            return _solve_tree(tree_of_payoffs(payoffs, name), chosen, ask)
        return _solve_matrix(name, payoffs, chosen, ask)


def _describe(game: Any) -> GameTree | StochasticGame | tuple[str, np.ndarray]:
    """The exact description of a game."""
    if isinstance(game, GameTree | StochasticGame):
        return game
    if isinstance(game, np.ndarray | list | tuple):
        return "matrix/custom", normal_form.check_payoffs(game)
    if isinstance(game, MatrixGame):
        if game.rounds != 1:
            raise UsageError(f"{game.spec.name} is repeated; solve its one-shot game, with rounds=1")
        return game.spec.name, normal_form.check_payoffs(np.asarray(game.payoffs, float))
    tree = getattr(game, "tree", None)
    if isinstance(tree, GameTree):
        return tree
    stochastic = getattr(game, "game", None)
    if isinstance(stochastic, StochasticGame):
        return stochastic
    raise UsageError(
        f"{game.spec.name} cannot be solved exactly: only spiel, matrix and stochastic games are described by arrays"
    )


def _marks(iterations: int) -> Iterator[int]:
    """How many iterations to run between looks: 1, 2, 5, 10, … of the total, at most a twentieth at once."""
    done, step = 0, 1
    while done < iterations:
        step = max(1, min(int(0.6 * done) or 1, max(iterations // 20, 1)))
        step = min(step, iterations - done)
        done += step
        yield step


def _solve_tree(tree: GameTree, method: str, ask: Ask) -> Solution:
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
    return _solution(tree.name, method, value, curve[-1].nash_conv, done, seconds, compiled, found, curve)


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
    solution = _solution(
        tree.name, "double-oracle", value, restricted.nash_conv, len(curve), curve[-1].seconds, 0.0, found, curve
    )
    solution.extra["strategies"] = [len(p) for p in restricted.plans]
    return solution


def _solve_matrix(name: str, payoffs: np.ndarray, method: str, ask: Ask) -> Solution:
    if method not in MATRIX:
        raise UsageError(f"'{method}' solves stochastic games, and {name} is a matrix; try lp or cfr+")
    players = payoffs.shape[-1]
    if method == "lp" and not normal_form.is_zero_sum(payoffs):
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
    solution = _solution(name, method, value, gap, 1, seconds, 0.0, {f"player_{i}": m for i, m in enumerate(mixtures)})
    solution.extra = extra
    return solution


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
    solution = _solution(name, method, value, gap, 1, seconds, 0.0, {"joint": joint})
    solution.extra = {"joint": joint.tolist(), "convention": "nash_conv: the sum of what each gains by deviating"}
    return solution


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
    return _solution(name, method, value, last.nash_conv, last.iteration, last.seconds, compiled, found, curve)


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
    solution = _solution(game.name, method, [start, -start], gap, found.iterations, seconds, 0.0, strategy)
    solution.extra = {"residual": found.residual, "state_values_at_start": found.value[game.start > 0].tolist()}
    return solution


def _solution(
    game: str,
    method: str,
    value: Any,
    gap: float | None,
    iterations: int,
    seconds: float,
    compiled: float,
    strategy: Any,
    curve: list[Point] | None = None,
) -> Solution:
    values = [float(v) for v in np.asarray(value)]
    gap = None if gap is None else max(float(gap), 0.0)
    exploitability = None if gap is None else gap / len(values)
    return Solution(game, method, values, gap, exploitability, iterations, seconds, compiled, strategy, curve or [])


def _draw(solution: Solution, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure((6, 4))
    axes = figure.subplots()
    players = len(solution.value)
    points = [p for p in solution.curve if p.nash_conv > 0]
    axes.loglog([p.iteration for p in points], [p.nash_conv / players for p in points], marker=".")
    axes.set_xlabel("iterations")
    axes.set_ylabel("exploitability (NashConv / players)")
    axes.set_title(f"{solution.method} on {solution.game}")
    axes.grid(alpha=0.3, which="both")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
