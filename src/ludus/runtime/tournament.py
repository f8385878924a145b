"""Many policies against each other at once: joint choices of stacked policies, each environment playing one episode."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ludus.core.game import Environment
from ludus.runtime.cast import Cast, Matches, Pairing, Records, team_returns, team_scores
from ludus.runtime.evaluate import play
from ludus.runtime.setup import compiler_options

BATCH = 8192  # environments at once


class Tournament:
    """Plays profiles of stacked policies; compiled once for each number of slots."""

    def __init__(self, env: Environment, explore: bool = True):
        self.env, self.explore = env, explore
        self._block = jax.jit(self._play, compiler_options=compiler_options())

    def _play(
        self, stacks: dict[str, Any], who: Int[Array, "env team"], key: Key[Array, " env"]
    ) -> tuple[Float[Array, "env team"], Float[Array, "env team"]]:
        """One episode in every environment: returns and scores of each team."""
        spec = self.env.spec
        envs, seat = who.shape[0], jnp.zeros(1, jnp.int32)
        matches = Matches(who, jnp.ones(envs), seat, jnp.zeros(2))
        pairing = Pairing(jnp.arange(envs, dtype=jnp.int32), jnp.zeros(envs, jnp.int32))
        cast = Cast({}, stacks, matches, spec)
        returns, _, _ = play(self.env, cast, key, explore=self.explore, pairing=pairing)
        earned = team_returns(spec, returns)
        return earned, team_scores(spec, earned)

    def __call__(self, stacks: dict[str, Any], profiles: np.ndarray, games: int, key: Key[Array, ""]) -> Records:
        """`games` episodes of each profile `[profile, team]` of slots; sums, with one seat."""
        count, teams = profiles.shape
        total = count * games
        batch = min(BATCH, 1 << (max(total, 1) - 1).bit_length())
        sums = [np.zeros((count, teams)) for _ in range(3)]
        for begin in range(0, total, batch):
            episode = np.arange(begin, begin + batch)
            index = np.minimum(episode // games, count - 1)
            keys = jax.random.split(jax.random.fold_in(key, begin // batch), batch)
            earned, score = (np.asarray(x, float) for x in self._block(stacks, jnp.asarray(profiles[index]), keys))
            real = episode < total
            for held, x in zip(sums, (earned, earned**2, score), strict=True):
                np.add.at(held, index[real], x[real])
        seat = lambda x: x[:, None]
        return Records(np.full((count, 1), float(games)), seat(sums[0]), seat(sums[1]), seat(sums[2]))  # type: ignore[arg-type]
