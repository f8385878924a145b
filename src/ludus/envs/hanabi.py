"""Hanabi (Bard et al. 2020) as JaxMARL implements it: players take turns and are paid together.

A time step carries the mover's row only. The state for central critics is all hands, the mover's first, which its
row hides. The suite's last action, to wait, is kept and is never legal for the mover.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ludus.core.errors import UsageError
from ludus.core.game import TimeStep
from ludus.core.spaces import Box
from ludus.core.spec import GameSpec
from ludus.envs.jaxmarl_common import group, no_reward, stack, stack_rewards
from ludus.envs.parts import import_part

NAMES = ("",)


class Hanabi:
    """One rule set."""

    suite: Any

    def __init__(self, **options: Any):
        try:
            self.suite = import_part("jaxmarl.environments.hanabi").Hanabi(**options)
        except AssertionError as error:
            raise UsageError(f"hanabi cannot be played like this: {error}") from error
        suite = self.suite
        undealt = int(suite.deck_size) - suite.num_agents * suite.hand_size
        if undealt < 1:
            raise UsageError(
                f"{suite.num_agents} hands of {suite.hand_size} cards leave nothing of a deck of {suite.deck_size}"
            )
        self.members = (group(suite, "players", "team", list(suite.agents), slots=1, masked=True),)
        # The longest game: all hints are given, then discards and hints alternate until the last card is dealt,
        # after which everyone has one more turn.
        horizon = 2 * undealt - 1 + suite.max_info_tokens + suite.num_agents
        groups = tuple(m.spec for m in self.members)
        cards = suite.num_agents * suite.hand_size * suite.num_colors * suite.num_ranks
        self.spec = GameSpec(
            "hanabi",
            groups,
            "common",
            turns="sequential",
            state=Box((cards,), 0.0, 1.0),
            symmetric=True,
            horizon=horizon,
        )

    @staticmethod
    def _mover(state: Any) -> Array:
        """Whose turn it is: seats take turns, and an agent may sit on any."""
        return state.seat_order[jnp.argmax(state.cur_player_idx)].astype(jnp.int32)

    def _show(self, observation: dict[str, Array], state: Any, reward: dict[str, Array], done: Array) -> TimeStep:
        mover = self._mover(state)
        views = stack(observation, self.members)
        legal = stack(self.suite.get_legal_moves(state), self.members)
        hands = jnp.roll(state.player_hands, -jnp.argmax(state.cur_player_idx), axis=0)
        return TimeStep(
            observation={name: rows[mover][None] for name, rows in views.items()},
            legal={name: rows[mover][None].astype(bool) for name, rows in legal.items()},
            acting={"players": (jnp.arange(self.suite.num_agents) == mover) & ~done},
            reward=reward,
            terminated=done,
            truncated=jnp.asarray(False),
            state=hands.reshape(-1).astype(jnp.float32),
            seat={"players": mover[None]},
        )

    def reset(self, key: Key[Array, ""]) -> tuple[Any, TimeStep]:
        """Deal."""
        observation, state = self.suite.reset(key)
        state = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), state)  # not weakly typed, as after a step
        return state, self._show(observation, state, no_reward(self.spec), jnp.asarray(False))

    def step(self, key: Key[Array, ""], state: Any, actions: dict[str, Array]) -> tuple[Any, TimeStep]:
        """Take the mover's action; everyone else waits."""
        wait = self.suite.num_moves - 1
        mover, action = self._mover(state), actions["players"][0]
        moves = {agent: jnp.where(mover == i, action, wait) for i, agent in enumerate(self.suite.agents)}
        observation, state, reward, done, _ = self.suite.step_env(key, state, moves)
        return state, self._show(observation, state, stack_rewards(reward, self.members), done["__all__"])


def make(
    name: str,
    *,
    num_agents: int = 2,
    num_colors: int = 5,
    num_ranks: int = 5,
    hand_size: int | None = None,
    max_info_tokens: int = 8,
    max_life_tokens: int = 3,
    shuffle_player_order: bool = False,
) -> Hanabi:
    """Hanabi; hands have five cards for two or three players and four for more unless `hand_size` says otherwise."""
    copies = [3] + [2] * (num_ranks - 2) + [1] * (num_ranks > 1)
    return Hanabi(
        num_agents=num_agents,
        num_colors=num_colors,
        num_ranks=num_ranks,
        hand_size=hand_size,
        max_info_tokens=max_info_tokens,
        max_life_tokens=max_life_tokens,
        num_cards_of_rank=np.array(copies),
        shuffle_player_order=shuffle_player_order,
    )
