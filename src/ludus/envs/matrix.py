"""Normal-form games of any number of players and actions, one-shot or repeated, and the QMIX two-step game.

Payoffs are a tensor: one axis for each player's actions, then one for the players. In a repeated game every player
observes the last joint action; payoffs are given in every round.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from ludus.core.errors import UsageError
from ludus.core.game import TimeStep
from ludus.core.payoffs import check_payoffs
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GameSpec, GroupSpec, RewardKind


def _bimatrix(row: Any, column: Any = None) -> np.ndarray:
    """Stack the two players' payoff matrices; without the second, both get the first."""
    return np.stack([np.asarray(row, float), np.asarray(row if column is None else column, float)], axis=-1)


_ROCK_PAPER_SCISSORS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
_STAG_HUNT = np.array([[4, 1], [3, 2]])
_DILEMMA = np.array([[-1, -3], [0, -2]])  # actions: silent, betray
_CHICKEN = np.array([[0, -1], [1, -10]])

PAYOFFS: dict[str, np.ndarray] = {
    "rock_paper_scissors": _bimatrix(_ROCK_PAPER_SCISSORS, -_ROCK_PAPER_SCISSORS),
    "matching_pennies": _bimatrix([[1, -1], [-1, 1]], [[-1, 1], [1, -1]]),
    "prisoners_dilemma": _bimatrix(_DILEMMA, _DILEMMA.T),
    "stag_hunt": _bimatrix(_STAG_HUNT, _STAG_HUNT.T),
    "chicken": _bimatrix(_CHICKEN, _CHICKEN.T),
    "battle_of_the_sexes": _bimatrix([[2, 0], [0, 1]], [[1, 0], [0, 2]]),
    "shapley": _bimatrix(np.eye(3), [[0, 1, 0], [0, 0, 1], [1, 0, 0]]),
    "biased_rock_paper_scissors": _bimatrix(
        [[0, -0.25, 0.5], [0.25, 0, -0.05], [-0.5, 0.05, 0]], [[0, 0.25, -0.5], [-0.25, 0, 0.05], [0.5, -0.05, 0]]
    ),
    "pr2": _bimatrix([[0, 3], [1, 2]], [[3, 2], [0, 1]]),
    "climbing": _bimatrix([[11, -30, 0], [-30, 7, 6], [0, 0, 5]]),
    "penalty": _bimatrix([[10, 0, -100], [0, 2, 0], [-100, 0, 10]]),
    "qtran": _bimatrix([[8, -12, -12], [-12, 0, 0], [-12, 0, 0]]),
    "coordination": _bimatrix([[1, 0], [0, 1]]),
}
NAMES = (*PAYOFFS, "custom", "two_step")


class _State(eqx.Module):
    round: Int[Array, ""]
    last: Int[Array, " player"]  # the last joint action; −1 before the first round


def _is_symmetric(payoffs: np.ndarray) -> bool:
    """Whether exchanging any two players' seats exchanges their payoffs and nothing else."""
    players = payoffs.ndim - 1
    for i in range(1, players):
        if payoffs.shape[0] != payoffs.shape[i]:
            return False
        order = list(range(players))
        order[0], order[i] = i, 0
        if not np.array_equal(payoffs, payoffs.transpose(*order, players)[..., order]):
            return False
    return True


def _reward_kind(payoffs: np.ndarray) -> RewardKind:
    if np.all(payoffs == payoffs[..., :1]):
        return "common"
    return "zero-sum" if np.allclose(payoffs.sum(-1), 0) else "general-sum"


class MatrixGame:
    """A normal-form game from its payoff tensor, played for `rounds` rounds."""

    def __init__(self, payoffs: np.ndarray, *, rounds: int = 1, name: str = "matrix/custom"):
        payoffs = check_payoffs(payoffs).astype(np.float32)
        players, actions = payoffs.ndim - 1, payoffs.shape[:-1]
        if rounds < 1:
            raise UsageError(f"a game is played for at least one round, not {rounds}")
        kind = _reward_kind(payoffs)
        observation = Box((1 + (sum(actions) if rounds > 1 else 0),), 0.0, 1.0)
        symmetric = _is_symmetric(payoffs)
        if len(set(actions)) == 1 and (kind == "common" or symmetric):
            rivals = kind != "common"
            name_, team = ("players", "player") if rivals else ("agents", "team")
            groups: tuple[GroupSpec, ...] = (
                GroupSpec(
                    name_, players, observation, Discrete(actions[0]), team, players, rivals=rivals, one_hot=rounds == 1
                ),
            )
        else:
            groups = tuple(
                GroupSpec(
                    f"player_{i}",
                    1,
                    observation,
                    Discrete(n),
                    "team" if kind == "common" else f"player_{i}",
                    1,
                    one_hot=rounds == 1,
                )
                for i, n in enumerate(actions)
            )
        self.payoffs = jnp.asarray(payoffs)
        self.rounds = rounds
        self.spec = GameSpec(name, groups, kind, symmetric=symmetric, horizon=rounds)

    def _show(self, state: _State, reward: Array, terminated: Array) -> TimeStep:
        view = [jnp.ones(1)]
        if self.rounds > 1:
            view += [jax.nn.one_hot(state.last[i], n) for i, n in enumerate(self.payoffs.shape[:-1])]
        row = jnp.concatenate(view)
        sizes = np.cumsum([0, *(group.size for group in self.spec.groups)])
        spans = {g.name: slice(a, b) for g, a, b in zip(self.spec.groups, sizes[:-1], sizes[1:], strict=True)}
        return TimeStep(
            observation={g.name: jnp.broadcast_to(row, (g.size, row.size)) for g in self.spec.groups},
            legal={},
            acting={g.name: jnp.ones(g.size, bool) for g in self.spec.groups},
            reward={name: reward[span] for name, span in spans.items()},
            terminated=terminated,
            truncated=jnp.asarray(False),
        )

    def reset(self, key: Key[Array, ""]) -> tuple[_State, TimeStep]:
        """Begin before the first round."""
        players = self.payoffs.ndim - 1
        state = _State(jnp.asarray(0), jnp.full(players, -1))
        return state, self._show(state, jnp.zeros(players), jnp.asarray(False))

    def step(self, key: Key[Array, ""], state: _State, actions: dict[str, Array]) -> tuple[_State, TimeStep]:
        """Play one round."""
        joint = jnp.concatenate([actions[g.name] for g in self.spec.groups])
        state = _State(state.round + 1, joint)
        return state, self._show(state, self.payoffs[tuple(joint)], state.round >= self.rounds)


class TwoStepGame:
    """The two-step game of QMIX (Rashid et al. 2018): agent 0 picks the second game, 7 everywhere or [[0,1],[1,8]]."""

    def __init__(self) -> None:
        group = GroupSpec("agents", 2, Box((3,), 0.0, 1.0), Discrete(2), "team", 2, one_hot=True)
        self.spec = GameSpec("matrix/two_step", (group,), "common", state=Box((3,), 0.0, 1.0), horizon=2)

    def _show(self, place: Array, reward: Array, terminated: Array) -> TimeStep:
        state = jax.nn.one_hot(place, 3)
        return TimeStep(
            observation={"agents": jnp.broadcast_to(state, (2, 3))},
            legal={},
            acting={"agents": jnp.ones(2, bool)},
            reward={"agents": jnp.broadcast_to(reward, (2,))},
            terminated=terminated,
            truncated=jnp.asarray(False),
            state=state,
        )

    def reset(self, key: Key[Array, ""]) -> tuple[Array, TimeStep]:
        """Begin in state 1 (index 0); 2A and 2B have the indices 1 and 2."""
        return jnp.asarray(0), self._show(jnp.asarray(0), jnp.asarray(0.0), jnp.asarray(False))

    def step(self, key: Key[Array, ""], state: Array, actions: dict[str, Array]) -> tuple[Array, TimeStep]:
        """One joint action."""
        a, b = actions["agents"]
        second = state > 0
        payoff = jnp.where(state == 1, 7.0, jnp.asarray([[0.0, 1.0], [1.0, 8.0]])[a, b])
        place = jnp.where(second, state, 1 + a)
        return place, self._show(place, jnp.where(second, payoff, 0.0), second)


def make(name: str, *, rounds: int = 1, payoffs: Any = None, penalty: float = -100.0) -> MatrixGame | TwoStepGame:
    """A named game; `custom` takes its `payoffs`, `penalty` its k."""
    if name == "two_step":
        return TwoStepGame()
    if name == "custom":
        if payoffs is None:
            raise UsageError("matrix/custom needs payoffs, e.g. payoffs=[[[1,-1],[-1,1]],[[-1,1],[1,-1]]]")
        return MatrixGame(np.asarray(payoffs), rounds=rounds)
    table = PAYOFFS[name]
    if name == "penalty":
        table = np.where(table == -100, penalty, table)
    return MatrixGame(table, rounds=rounds, name=f"matrix/{name}")
