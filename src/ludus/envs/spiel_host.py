"""OpenSpiel's games that are too big to compile, stepped on the host: `spiel-host/go(board_size=9)`, …"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyspiel

from ludus.core.errors import UsageError
from ludus.core.host import HostEnvironment, HostStep
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GameSpec, GroupSpec, RewardKind

_TURNS = (pyspiel.GameType.Dynamics.SEQUENTIAL, pyspiel.GameType.Dynamics.SIMULTANEOUS)
NAMES = tuple(
    kind.short_name
    for kind in pyspiel.registered_games()
    if kind.default_loadable
    and kind.dynamics in _TURNS
    and (kind.provides_observation_tensor or kind.provides_information_state_tensor)
)


class SpielGame(HostEnvironment):
    """One game: its players are the seats of one group, each a team of its own; rewards are those of each step."""

    def __init__(self, name: str, game: Any, observe: Literal["information", "observation"]):
        self.game = game
        kind = game.get_type()
        if observe == "information" and not kind.provides_information_state_tensor:
            observe = "observation"
        self._information = observe == "information"
        shape = tuple(game.information_state_tensor_shape() if self._information else game.observation_tensor_shape())
        self._together = kind.dynamics == pyspiel.GameType.Dynamics.SIMULTANEOUS
        players = game.num_players()
        slots = players if self._together else 1
        width = (int(np.prod(shape)),)
        group = GroupSpec(
            "players", players, Box(width), Discrete(game.num_distinct_actions()), "player", slots, True, players > 1
        )
        utility = kind.utility
        rewards: RewardKind = "general-sum"
        if utility == pyspiel.GameType.Utility.ZERO_SUM:
            rewards = "zero-sum"
        elif utility == pyspiel.GameType.Utility.IDENTICAL:
            rewards = "common"
        turns: Any = "simultaneous" if self._together else "sequential"
        self.spec = GameSpec(f"spiel-host/{name}", (group,), rewards, turns, horizon=game.max_game_length())
        self._random = np.random.default_rng(0)
        self._state: Any = None

    def reset(self, seed: int) -> HostStep:
        """See `HostEnvironment.reset`."""
        self._random = np.random.default_rng(seed)
        self._state = self.game.new_initial_state()
        self._by_chance()
        return self._show(np.zeros(self.spec.groups[0].size, np.float32))

    def step(self, actions: dict[str, np.ndarray]) -> HostStep:
        """See `HostEnvironment.step`."""
        before = np.asarray(self._state.returns(), np.float32)
        chosen = actions["players"]
        if self._state.is_simultaneous_node():
            legal = [self._state.legal_actions(p) for p in range(len(chosen))]
            self._state.apply_actions([int(a) if len(own) else 0 for a, own in zip(chosen, legal, strict=True)])
        else:
            player = self._state.current_player()
            self._state.apply_action(int(chosen[player if self._together else 0]))
        self._by_chance()
        return self._show(np.asarray(self._state.returns(), np.float32) - before)

    def _by_chance(self) -> None:
        while self._state.is_chance_node():
            outcomes, weights = zip(*self._state.chance_outcomes(), strict=True)
            p = np.asarray(weights)
            self._state.apply_action(int(outcomes[self._random.choice(len(p), p=p / p.sum())]))

    def _show(self, reward: np.ndarray) -> HostStep:
        group, state = self.spec.groups[0], self._state
        observation = np.zeros((group.slots, *group.observation.shape), np.float32)
        legal = np.ones((group.slots, getattr(group.action, "n", 0)), bool)
        acting = np.zeros(group.size, bool)
        movers: list[int] = []
        if not state.is_terminal():
            movers = list(range(group.size)) if state.is_simultaneous_node() else [state.current_player()]
        for player in movers:
            row = player if self._together else 0
            acting[player] = True
            see = state.information_state_tensor if self._information else state.observation_tensor
            observation[row] = see(player)
            legal[row] = False
            legal[row, state.legal_actions(player)] = True
        seat = {} if group.slots == group.size else {"players": np.array([movers[0] if movers else 0], np.int32)}
        names = {"players": observation}, {"players": legal}, {"players": acting}, {"players": reward}
        return HostStep(*names, terminated=state.is_terminal(), seat=seat)


def make(name: str, *, observe: Literal["information", "observation"] = "observation") -> SpielGame:
    """A game in OpenSpiel's own syntax. `observe`: what a player sees now, or all that it knows."""
    try:
        return SpielGame(name, pyspiel.load_game(name), observe)
    except pyspiel.SpielError as error:
        raise UsageError(f"OpenSpiel cannot load '{name}': {error}") from error
