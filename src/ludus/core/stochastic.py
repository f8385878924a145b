"""The second exact description of a game: a stochastic game, as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ludus.core.errors import UsageError


@dataclass(frozen=True, eq=False)
class StochasticGame:
    """Finitely many states in which all players move at once. Each joint action has up to K outcomes.

    Transitions are kept by outcome, `P[s, a1 … an, s']` being mostly zeros; `expected_reward` is `R[s, a1 … an, i]`.
    Actions that are not legal in a state are never played.
    """

    name: str
    outcome: Int[np.ndarray, "state *actions outcome"]  # the next state
    probability: Float[np.ndarray, "state *actions outcome"]
    reward: Float[np.ndarray, "state *actions outcome player"]
    start: Float[np.ndarray, " state"]
    terminal: Bool[np.ndarray, " state"]
    discount: float
    legal: tuple[Bool[np.ndarray, "state action"], ...]  # for each player

    @property
    def players(self) -> int:
        """The number of players."""
        return int(self.reward.shape[-1])

    @property
    def actions(self) -> tuple[int, ...]:
        """How many actions each player has."""
        return tuple(int(n) for n in self.outcome.shape[1:-1])

    @property
    def states(self) -> int:
        """The number of states, terminal ones included."""
        return int(self.outcome.shape[0])

    @property
    def expected_reward(self) -> Float[np.ndarray, "state *actions player"]:
        """R[s, a1 … an, i]."""
        return (self.probability[..., None] * self.reward).sum(-2)

    @property
    def zero_sum(self) -> bool:
        """Whether two players' rewards add up to 0."""
        return self.players == 2 and bool(np.allclose(self.reward.sum(-1), 0))

    def transition(self) -> Float[np.ndarray, "state *actions next"]:
        """P[s, a1 … an, s']: for small games."""
        dense = np.zeros((*self.outcome.shape[:-1], self.states))
        index = np.indices(self.outcome.shape)
        np.add.at(dense, (*index[:-1], self.outcome), self.probability)
        return dense

    def check(self) -> None:
        """Raise `UsageError` where these arrays are not a game."""
        for label in ("probability", "reward", "start"):
            if not np.isfinite(getattr(self, label)).all():
                raise UsageError(f"the {label} of {self.name} must not contain NaN or infinite entries")
        if self.reward.shape[:-1] != self.outcome.shape or self.probability.shape != self.outcome.shape:
            raise UsageError(
                f"{self.name}: outcome {self.outcome.shape}, probability {self.probability.shape} and reward "
                f"{self.reward.shape} must agree but for the reward's last axis, the players"
            )
        if self.players != len(self.actions) or len(self.legal) != self.players:
            raise UsageError(f"{self.name} has {len(self.actions)} action axes for {self.players} players' rewards")
        if not np.allclose(self.probability.sum(-1), 1.0) or (self.probability < 0).any():
            raise UsageError(f"{self.name} has a joint action whose outcomes' probabilities do not add up to 1")
        if not np.isclose(self.start.sum(), 1.0):
            raise UsageError(f"the start distribution of {self.name} does not add up to 1")
        if not 0 <= self.discount <= 1:
            raise UsageError(f"the discount of {self.name} must lie in [0, 1], not {self.discount}")


def from_tensors(
    transition: Float[np.ndarray, "state *actions next"],
    reward: Float[np.ndarray, "state *actions player"],
    *,
    discount: float,
    start: Float[np.ndarray, " state"] | None = None,
    terminal: Bool[np.ndarray, " state"] | None = None,
    name: str = "stochastic/custom",
) -> StochasticGame:
    """A game from P[s, a1 … an, s'] and R[s, a1 … an, i]; without `start`, every state starts alike."""
    transition, reward = np.asarray(transition, float), np.asarray(reward, float)
    states = transition.shape[0] if transition.ndim else 0
    if transition.ndim < 3 or transition.shape[-1] != states or reward.shape[:-1] != transition.shape[:-1]:
        raise UsageError(
            f"a stochastic game takes P[s, a1 … an, s'] and R[s, a1 … an, i]; shapes {transition.shape} and "
            f"{reward.shape} do not fit"
        )
    if reward.shape[-1] != transition.ndim - 2:
        raise UsageError(f"P has {transition.ndim - 2} action axes, but R has rewards for {reward.shape[-1]} players")
    most = max(1, int((transition > 0).sum(-1).max()))
    outcome = np.argsort(-transition, axis=-1, kind="stable")[..., :most].astype(np.int32)
    probability = np.take_along_axis(transition, outcome, -1)
    game = StochasticGame(
        name=name,
        outcome=outcome,
        probability=probability,
        reward=np.broadcast_to(reward[..., None, :], (*outcome.shape, reward.shape[-1])).copy(),
        start=np.full(states, 1.0 / states) if start is None else np.asarray(start, float),
        terminal=np.zeros(states, bool) if terminal is None else np.asarray(terminal, bool),
        discount=float(discount),
        legal=tuple(np.ones((states, n), bool) for n in transition.shape[1:-1]),
    )
    game.check()
    return game
