"""Board and card games from pgx: sequential, zero-sum, with legal-action masks.

One row is shown at a time, that of the player to move: pgx's own observation of its `current_player`, in pgx's type
(bool, int32 or float32). Who begins is drawn at random, so player numbers carry no meaning and no observation holds
them. The mover's colour (who began) is a plane of chess, gardner_chess, go, hex, shogi and animal_shogi. The other
games show the mover's things first instead and leave the turn to be counted on the board; in kuhn_poker and
leduc_holdem nothing tells it, so that an opening move and the answer to a pass (or check) look alike there.

Every end is a termination, also by the limits on moves that pgx sets; an illegal action ends the game and loses it,
as in pgx. Afterwards nobody acts and all actions are marked legal.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import pgx
from jaxtyping import Array, Key

from ludus.core.errors import UsageError
from ludus.core.game import TimeStep
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GameSpec, GroupSpec

# name -> the most moves a game takes, where there is a bound
_HORIZONS: dict[str, int | None] = {
    "animal_shogi": 256,
    "backgammon": None,
    "chess": 512,
    "connect_four": 42,
    "gardner_chess": 256,
    "go_9x9": 162,
    "go_19x19": 722,
    "hex": 122,  # 121 cells and the swap
    "kuhn_poker": 3,
    "leduc_holdem": 8,
    "othello": 119,  # 60 discs, and never two passes in a row before the end
    "shogi": 512,
    "sparrow_mahjong": 28,  # three players; one discard for each tile drawn
    "tic_tac_toe": 9,
}
NAMES = tuple(_HORIZONS)


class Pgx:
    """One game."""

    def __init__(self, name: str):
        self.suite = pgx.make(name)
        shown = jax.eval_shape(self.suite.init, jax.random.key(0))
        low, high = (0.0, 1.0) if shown.observation.dtype == bool else (-math.inf, math.inf)
        group = GroupSpec(
            "players",
            self.suite.num_players,
            Box(shown.observation.shape, low, high),
            Discrete(shown.legal_action_mask.shape[0]),
            "player",
            slots=1,
            masked=True,
            rivals=True,
        )
        self.spec = GameSpec(
            f"pgx/{name}", (group,), "zero-sum", turns="sequential", symmetric=True, horizon=_HORIZONS[name]
        )

    def _show(self, state: Any) -> TimeStep:
        seat = jnp.asarray(state.current_player, jnp.int32)
        terminated = jnp.asarray(state.terminated, bool)
        return TimeStep(
            observation={"players": jnp.asarray(state.observation)[None]},
            legal={"players": jnp.asarray(state.legal_action_mask, bool)[None]},
            acting={"players": (jnp.arange(self.suite.num_players) == seat) & ~terminated},
            reward={"players": jnp.asarray(state.rewards, jnp.float32)},
            terminated=terminated,
            truncated=jnp.asarray(False),
            seat={"players": seat[None]},
        )

    def reset(self, key: Key[Array, ""]) -> tuple[Any, TimeStep]:
        """Deal, and draw who begins."""
        state = self.suite.init(key)
        return state, self._show(state)

    def step(self, key: Key[Array, ""], state: Any, actions: dict[str, Array]) -> tuple[Any, TimeStep]:
        """The player to move plays; the key is for dice."""
        state = self.suite.step(state, actions["players"][0], key)
        return state, self._show(state)

    render_suffix = ".svg"

    def render(self, states: list[Any], path: str) -> None:
        """Draw the states of one episode as an animated SVG."""
        if not path.endswith(".svg"):
            raise UsageError(f"{self.spec.name} is drawn as an animated SVG: end the path with .svg, not '{path}'")
        pgx.save_svg_animation(states, path, frame_duration_seconds=0.5)


def make(name: str) -> Pgx:
    """A game as pgx sets it up; there are no options."""
    return Pgx(name)
