"""OpenSpiel's finite games, compiled: `spiel/kuhn_poker`, `spiel/liars_dice(dice_sides=4)`, …"""

from __future__ import annotations

from typing import Literal

import pyspiel

from ludus.envs.spiel_tree import MAX_NODES, compile_tree
from ludus.envs.tree import TreeGame

_STOCHASTIC = pyspiel.GameType.ChanceMode.SAMPLED_STOCHASTIC
_TURNS = (pyspiel.GameType.Dynamics.SEQUENTIAL, pyspiel.GameType.Dynamics.SIMULTANEOUS)

NAMES = tuple(
    kind.short_name
    for kind in pyspiel.registered_games()
    if kind.provides_information_state_string
    and kind.default_loadable
    and kind.chance_mode != _STOCHASTIC
    and kind.dynamics in _TURNS
)


def make(name: str, *, observe: Literal["tensor", "index"] = "tensor", max_nodes: int = MAX_NODES) -> TreeGame:
    """A game in OpenSpiel's own syntax; a tree of more than `max_nodes` nodes is refused."""
    return TreeGame(compile_tree(name, max_nodes=max_nodes), observe=observe)
