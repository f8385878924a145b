"""Stochastic games from tensors: Littman's soccer, Hu & Wellman's grid games, a grid world, random games.

Every player observes the state, as a one-hot. Games that do not end by themselves are cut after `max_steps`.
"""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ludus.core.errors import UsageError
from ludus.core.game import TimeStep
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GameSpec, GroupSpec
from ludus.core.stochastic import StochasticGame, from_tensors

_NORTH, _SOUTH, _EAST, _WEST, _STAND = range(5)
_MOVES = ((-1, 0), (1, 0), (0, 1), (0, -1), (0, 0))


class _State(eqx.Module):
    place: Int[Array, ""]
    steps: Int[Array, ""]


class StochasticEnvironment:
    """A stochastic game played from its start distribution until a terminal state, or for `max_steps`."""

    def __init__(self, game: StochasticGame, *, max_steps: int = 0):
        game.check()
        if max_steps < 0:
            raise UsageError(f"max_steps must be at least 1, or 0 for no limit, not {max_steps}")
        if not max_steps and not game.terminal.any():
            raise UsageError(f"{game.name} never ends; give max_steps")
        self.game, self.max_steps = game, max_steps
        box = Box((game.states,), 0.0, 1.0)
        masked = [not mask.all() for mask in game.legal]
        self.spec = GameSpec(
            game.name,
            tuple(
                GroupSpec(f"player_{i}", 1, box, Discrete(n), f"player_{i}", 1, masked=masked[i], one_hot=True)
                for i, n in enumerate(game.actions)
            ),
            "zero-sum" if game.zero_sum else "general-sum",
            state=box,
            horizon=max_steps or None,
            truncates=bool(max_steps),
        )
        self._outcome = jnp.asarray(game.outcome, jnp.int32)
        self._limit = jnp.asarray(np.cumsum(game.probability, -1), jnp.float32)
        self._reward = jnp.asarray(game.reward, jnp.float32)
        self._start = jnp.log(jnp.asarray(game.start, jnp.float32))
        self._terminal = jnp.asarray(game.terminal)
        self._legal = tuple(jnp.asarray(mask) for mask in game.legal)

    def _show(self, state: _State, reward: Float[Array, " player"]) -> TimeStep:
        seen = jax.nn.one_hot(state.place, self.game.states)
        over = self._terminal[state.place]
        late = (state.steps >= self.max_steps) & ~over if self.max_steps else jnp.asarray(False)
        names = [g.name for g in self.spec.groups]
        return TimeStep(
            observation=dict.fromkeys(names, seen[None]),
            legal={g.name: self._legal[i][state.place][None] for i, g in enumerate(self.spec.groups) if g.masked},
            acting=dict.fromkeys(names, ~over[None]),
            reward={name: reward[i][None] for i, name in enumerate(names)},
            terminated=over,
            truncated=late,
            state=seen,
        )

    def reset(self, key: Key[Array, ""]) -> tuple[_State, TimeStep]:
        """Draw the first state."""
        place = jax.random.categorical(key, self._start).astype(jnp.int32)
        state = _State(place, jnp.asarray(0, jnp.int32))
        return state, self._show(state, jnp.zeros(self.game.players))

    def step(self, key: Key[Array, ""], state: _State, actions: dict[str, Array]) -> tuple[_State, TimeStep]:
        """All players move at once."""
        at = (state.place, *(actions[g.name][0] for g in self.spec.groups))
        limit = self._limit[at]
        which = jnp.minimum((limit <= jax.random.uniform(key) * limit[-1]).sum(), limit.shape[0] - 1)
        new = _State(self._outcome[at][which], state.steps + 1)
        return new, self._show(new, self._reward[at][which])


def soccer(*, discount: float = 0.9) -> StochasticGame:
    """Littman's soccer (1994) on 4 × 5 fields: player 0 scores to the left, player 1 to the right.

    Both choose a move; the moves are carried out in random order. Moving into the other's field leaves both in place
    and gives the ball to who stands. Who carries the ball off the board in the middle rows on the side that he attacks
    scores +1 (−1 for the other), and play starts anew with a drawn kick-off. Other moves off the board do nothing.
    """
    rows, columns = 4, 5
    cells = [(r, c) for r in range(rows) for c in range(columns)]
    states = [(a, b, ball) for a in cells for b in cells if a != b for ball in (0, 1)]
    number = {s: k for k, s in enumerate(states)}
    kick_off = [number[((2, 3), (1, 1), ball)] for ball in (0, 1)]
    outcome = np.zeros((len(states), 5, 5, 4), np.int32)
    probability = np.zeros(outcome.shape)
    reward = np.zeros((*outcome.shape, 2))
    for k, (a, b, ball) in enumerate(states):
        for moves in product(range(5), repeat=2):
            found: dict[tuple[int, float], float] = {}
            for order in ((0, 1), (1, 0)):
                place, holder, goal = [a, b], ball, 0.0
                for mover in order:
                    row, column = place[mover][0] + _MOVES[moves[mover]][0], place[mover][1] + _MOVES[moves[mover]][1]
                    if holder == mover and row in (1, 2) and column == (-1 if mover == 0 else columns):
                        goal = 1.0 if mover == 0 else -1.0
                        break
                    if not (0 <= row < rows and 0 <= column < columns):
                        continue
                    if (row, column) == place[1 - mover]:
                        holder = 1 - mover
                    else:
                        place[mover] = (row, column)
                ends = [(s, 0.25) for s in kick_off] if goal else [(number[(place[0], place[1], holder)], 0.5)]
                for s, p in ends:
                    found[(s, goal)] = found.get((s, goal), 0.0) + p
            for slot, ((s, goal), p) in enumerate(found.items()):
                at = (k, *moves, slot)
                outcome[at], probability[at], reward[at] = s, p, (goal, -goal)
    start = np.zeros(len(states))
    start[kick_off] = 0.5
    everything = np.ones((len(states), 5), bool)
    return StochasticGame(
        "stochastic/soccer",
        outcome,
        probability,
        reward,
        start,
        np.zeros(len(states), bool),
        discount,
        (everything,) * 2,
    )


def grid_game(which: int, *, discount: float = 0.99) -> StochasticGame:
    """Hu & Wellman's grid games (2003) on 3 × 3 fields, numbered from the bottom left; actions left, right, up, down.

    Players start in the two bottom corners. In the first game each has the corner across as his goal, in the second
    both have the top middle, and moving up from a corner succeeds half of the time. Reaching one's goal pays 100 and
    ends the game; who would meet anywhere else bounce back and pay 1 each.
    """
    goals = (8, 6) if which == 1 else (7, 7)
    pairs = [(a, b) for a, b in permutations(range(9), 2) if a != goals[0] and b != goals[1]]
    number = {s: k for k, s in enumerate(pairs)}
    over = len(pairs)
    outcome = np.full((over + 1, 4, 4, 4), over, np.int32)
    probability = np.zeros(outcome.shape)
    probability[..., 0] = 1.0
    reward = np.zeros((*outcome.shape, 2))
    legal = [np.zeros((over + 1, 4), bool) for _ in range(2)]
    for mask in legal:
        mask[over] = True
    for (a, b), k in number.items():
        for i, cell in enumerate((a, b)):
            legal[i][k] = [cell % 3 > 0, cell % 3 < 2, cell < 6, cell >= 3]
        for moves in product(range(4), repeat=2):
            if not (legal[0][k, moves[0]] and legal[1][k, moves[1]]):
                continue
            targets = [cell + (-1, 1, 3, -3)[move] for cell, move in zip((a, b), moves, strict=True)]
            barred = [which == 2 and move == 2 and cell in (0, 2) for cell, move in zip((a, b), moves, strict=True)]
            found: dict[tuple[int, float, float], float] = {}
            for passes in product(*((True, False) if bar else (True,) for bar in barred)):
                p = float(np.prod([0.5 if bar else 1.0 for bar in barred]))
                to = [t if ok else cell for t, ok, cell in zip(targets, passes, (a, b), strict=True)]
                end = _meet(a, b, to, goals, number, over)
                found[end] = found.get(end, 0.0) + p
            for slot, ((s, r0, r1), p) in enumerate(found.items()):
                at = (k, *moves, slot)
                outcome[at], probability[at], reward[at] = s, p, (r0, r1)
    start = np.zeros(over + 1)
    start[number[(0, 2)]] = 1.0
    terminal = np.arange(over + 1) == over
    return StochasticGame(
        f"stochastic/grid_game_{which}", outcome, probability, reward, start, terminal, discount, tuple(legal)
    )


def _meet(
    a: int, b: int, to: list[int], goals: tuple[int, int], number: dict[tuple[int, int], int], over: int
) -> tuple[int, float, float]:
    """The next state and both rewards, when players at a and b move to these fields."""
    shared_goal = to[0] == to[1] == goals[0] == goals[1]
    if (to[0] == to[1] and not shared_goal) or (to[0] == b and to[1] == a):
        return number[(a, b)], -1.0, -1.0
    arrived = [100.0 if t == goal else 0.0 for t, goal in zip(to, goals, strict=True)]
    if any(arrived):
        return over, arrived[0], arrived[1]
    return number[(to[0], to[1])], 0.0, 0.0


def grid_world() -> StochasticGame:
    """Mitchell's grid world (1997): one agent on 2 × 3 fields, 100 for entering the goal at the top right, γ = 0.9."""
    rows, columns, goal = 2, 3, 2
    outcome = np.zeros((6, 4, 1), np.int32)
    reward = np.zeros((6, 4, 1, 1))
    legal = np.zeros((6, 4), bool)
    for cell in range(6):
        for k, (dr, dc) in enumerate(_MOVES[:4]):
            row, column = cell // columns + dr, cell % columns + dc
            inside = 0 <= row < rows and 0 <= column < columns
            to = row * columns + column if inside else cell
            outcome[cell, k], legal[cell, k] = to, inside
            reward[cell, k] = 100.0 if to == goal and cell != goal else 0.0
    start = np.full(6, 0.2)
    start[goal] = 0.0
    terminal = np.arange(6) == goal
    return StochasticGame(
        "stochastic/grid_world", outcome, np.ones(outcome.shape), reward, start, terminal, 0.9, (legal,)
    )


def random_game(
    *, states: int, actions: int, players: int, zero_sum: bool, discount: float, seed: int
) -> StochasticGame:
    """Dense random transitions, rewards uniform in [−1, 1]."""
    rng = np.random.default_rng(seed)
    shape = (states, *([actions] * players))
    transition = rng.dirichlet(np.ones(states), size=shape)
    reward = rng.uniform(-1, 1, (*shape, players))
    if zero_sum:
        if players != 2:
            raise UsageError(f"a zero-sum random game has two players, not {players}")
        reward[..., 1] = -reward[..., 0]
    return from_tensors(transition, reward, discount=discount, name="stochastic/random")


_FIXED: dict[str, Any] = {
    "soccer": soccer,
    "grid_game_1": lambda: grid_game(1),
    "grid_game_2": lambda: grid_game(2),
    "grid_world": grid_world,
}
NAMES = (*_FIXED, "random")
_STEPS = {"soccer": 100, "random": 100}


def make(
    name: str,
    *,
    max_steps: int = 0,
    states: int = 10,
    actions: int = 3,
    players: int = 2,
    zero_sum: bool = True,
    seed: int = 0,
) -> StochasticEnvironment:
    """A named game; those that never end are cut after 100 steps. The options after the first are `random`'s."""
    if name in _FIXED:
        game = _FIXED[name]()
    else:
        if min(states, actions, players) < 1:
            raise UsageError("a random game needs at least one state, action and player")
        game = random_game(states=states, actions=actions, players=players, zero_sum=zero_sum, discount=0.9, seed=seed)
    return StochasticEnvironment(game, max_steps=max_steps or _STEPS.get(name, 0))
