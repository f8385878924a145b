"""Evaluation of policies in games that are stepped on the host."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from ludus.core.errors import NotFiniteError
from ludus.core.spec import GameSpec
from ludus.runtime.cast import Pairing
from ludus.runtime.evaluate import ENDLESS, Results
from ludus.runtime.host.board import FINE
from ludus.runtime.host.pool import Pool
from ludus.runtime.inference import Inference
from ludus.runtime.rollout import Policies

ENVS = 32  # that play at once


class HostEvaluator:
    """Plays policies in a game of processes; the face of `runtime.evaluate.Evaluator`."""

    def __init__(self, game: str, options: dict[str, Any], spec: GameSpec, workers: int):
        self.game, self.options, self.spec, self.workers = game, options, spec, workers
        self._inference: dict[tuple[int, bool], Inference] = {}

    def __call__(self, policies: Policies, episodes: int, key: Key[Array, ""], *, explore: bool) -> Results:
        """`episodes` episodes. Every environment plays as many, so that short ones do not count double."""
        return self.play(policies, episodes, key, explore=explore)[0]

    def play(
        self,
        policies: Policies,
        episodes: int,
        key: Key[Array, ""],
        *,
        explore: bool,
        pairing: Pairing | None = None,
        envs: int = ENVS,
    ) -> tuple[Results, np.ndarray]:
        """The results, and which environment played each episode. `pairing` says who plays where, for casts."""
        envs = min(envs, episodes)
        quota = np.full(envs, episodes // envs)
        quota[: episodes % envs] += 1
        seed = int(jax.random.randint(key, (), 0, np.iinfo(np.int32).max))
        pool = Pool(self.game, self.options, self.spec, envs, min(self.workers, envs), seed=seed)
        try:
            return self._play(pool, policies, quota, key, explore, pairing)
        finally:
            pool.close()

    def _play(
        self, pool: Pool, policies: Policies, quota: np.ndarray, key: Any, explore: bool, pairing: Pairing | None
    ) -> tuple[Results, np.ndarray]:
        spec, board, envs = self.spec, pool.board, pool.num_envs
        inference = self._inference.setdefault((envs, explore), Inference(spec, envs, explore=explore))
        inference.publish(policies, 0)
        inference.begin(jax.random.split(key, envs), pairing)
        returns = {g.name: np.zeros((envs, g.size)) for g in spec.groups}
        length, start = np.zeros(envs, int), np.ones(envs, bool)
        found: list[tuple[int, dict[str, np.ndarray], int, bool]] = []
        left = quota.copy()
        acted: set[int] = set()
        pool.begin()
        while (left > 0).any():
            ready = []
            for client in pool.arrivals():
                if id(client) in acted:
                    self._count(pool, client.rows, returns, length, start, found, left)
                acted.add(id(client))
                if (left[client.rows] > 0).any():
                    ready.append(client)
            if not ready:
                continue
            rows = np.concatenate([c.rows for c in ready])
            take = lambda tree, rows=rows: {name: x[rows] for name, x in tree.items()}
            moment = {name: take(board.now[name]) for name in ("observation", "legal", "acting", "seat")}
            decided = inference.decide(rows, start[rows], moment)
            for name, x in decided.action.items():
                board.action[name][rows] = x
            for client in ready:
                pool.ask(client)
        names = returns
        results = Results(
            {name: np.stack([r[name] for _, r, _, _ in found]) for name in names},
            np.array([n for _, _, n, _ in found]),
            np.array([whole for _, _, _, whole in found]),
        )
        return results, np.array([env for env, _, _, _ in found])

    def _count(self, pool: Pool, rows: list[int], returns: Any, length: Any, start: Any, found: Any, left: Any) -> None:
        board = pool.board
        for row in rows:
            for name, x in returns.items():
                x[row] += board.reward[name][row]
            length[row] += 1
            given_up = length[row] >= (self.spec.horizon or ENDLESS)
            done = bool(board.terminated[row] or board.truncated[row])
            start[row] = done
            if not (done or given_up):
                continue
            broken = board.fault[row] != FINE
            if broken and row in pool.faults.quarantined:
                raise NotFiniteError(f"an environment of {self.spec.name} always fails: {pool.faults.messages[-1]}")
            if left[row] > 0 and not broken:
                left[row] -= 1
                found.append((row, {name: x[row].copy() for name, x in returns.items()}, int(length[row]), done))
            length[row] = 0
            for x in returns.values():
                x[row] = 0.0
