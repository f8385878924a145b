"""Many policies against each other in a game that is stepped on the host."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ludus.runtime.cast import Cast, Matches, Pairing, Records, team_returns, team_scores
from ludus.runtime.host.evaluate import HostEvaluator

ENVS = 64  # that play at once


class HostTournament:
    """Plays profiles of stacked policies; the face of `runtime.tournament.Tournament`."""

    def __init__(self, evaluator: HostEvaluator):
        self.evaluator = evaluator

    def __call__(self, stacks: dict[str, Any], profiles: np.ndarray, games: int, key: Key[Array, ""]) -> Records:
        """`games` episodes of each profile `[profile, team]` of slots; sums, with one seat."""
        spec = self.evaluator.spec
        count, teams = profiles.shape
        sums = [np.zeros((count, teams)) for _ in range(3)]
        # An environment plays one profile; several play the same where there are few.
        copies = max(1, min(games, ENVS // count))
        for begin in range(0, count, ENVS):
            own = np.arange(begin, min(begin + ENVS, count))
            which = np.repeat(own, copies)
            size = ENVS if count >= ENVS else len(which)
            padded = np.concatenate([which, np.full(size - len(which), which[-1])])
            matches = Matches(
                jnp.asarray(profiles[padded], jnp.int32),
                jnp.ones(size),
                jnp.zeros(1, jnp.int32),
                jnp.zeros(2),
            )
            # Row r plays profile r whenever it begins: nothing is drawn.
            pairing = Pairing(jnp.arange(size, dtype=jnp.int32), jnp.zeros(size, jnp.int32))
            cast = _Fixed({}, stacks, matches, spec)
            per = -(-games // copies)
            results, rows = self.evaluator.play(
                cast, per * size, jax.random.fold_in(key, begin), explore=True, pairing=pairing, envs=size
            )
            earned = team_returns(spec, {name: jnp.asarray(x, jnp.float32) for name, x in results.returns.items()})
            score = np.asarray(team_scores(spec, earned))
            value = np.asarray(earned, float)
            taken = dict.fromkeys(own.tolist(), 0)
            for k, row in enumerate(rows):
                profile = int(padded[row])
                if row >= len(which) or taken[profile] == games:
                    continue
                taken[profile] += 1
                for held, x in zip(sums, (value, value**2, score), strict=True):
                    held[profile] += x[k]
        seat = lambda x: x[:, None]
        return Records(np.full((count, 1), float(games)), seat(sums[0]), seat(sums[1]), seat(sums[2]))  # type: ignore[arg-type]


class _Fixed(Cast):
    """A cast whose pairings never change."""

    def draw(self, begins: Any, pairing: Any, key: Any) -> Any:
        """The same as ever."""
        return pairing
