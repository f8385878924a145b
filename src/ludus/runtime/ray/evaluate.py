"""Evaluation on a cluster: episodes and matches shared out among evaluators, again where one dies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from ludus.runtime.cast import Records
from ludus.runtime.evaluate import Results
from ludus.runtime.ray.cluster import connect
from ludus.runtime.ray.roles import EvaluatorRole, Shipped
from ludus.runtime.sampler import on_host

TRIES = 5  # how often work is given to another evaluator before it is given up


class Evaluators:
    """Some evaluators of one game; with the faces of `Evaluator` (called) and of `Tournament` (`tournament`)."""

    def __init__(self, env: Any, where: Any):
        self._where, self._shipped = where, Shipped.of(env)
        self._ray = connect(where)
        self._handles: list[Any] = [None] * where.evaluators
        self._spare: Any = None  # made before it is needed, because that takes seconds
        self._begun: dict[Any, Any] = {}  # by evaluator: a reference that is there once it works
        self.restarts = 0

    def _new(self) -> Any:
        role = self._ray.remote(num_cpus=1, max_restarts=0)(EvaluatorRole)
        handle = role.remote(self._shipped, max(1, self._where.workers))
        self._begun[handle] = handle.pid.remote()
        return handle

    def _working(self) -> list[Any]:
        """Evaluators that have begun, or all where none has; those that died are made anew."""
        for k, handle in enumerate(self._handles):
            if handle is None:
                self._handles[k], self._spare = self._spare or self._new(), None
        begun = [self._begun[h] for h in self._handles]
        there = self._ray.wait(begun, num_returns=len(begun), timeout=0)[0]
        return [h for h in self._handles if self._begun[h] in there] or self._handles

    def share(self, work: list[Callable[[Any], Any]]) -> list[Any]:
        """The results of pieces of work, each of which is asked of some evaluator; again of another where one dies."""
        found: list[Any] = [None] * len(work)
        missing = list(range(len(work)))
        for _ in range(TRIES):
            working = self._working()  # who works is not kept waiting for those that only begin
            asked = [(i, working[n % len(working)]) for n, i in enumerate(missing)]
            answers = [(i, handle, work[i](handle)) for i, handle in asked]
            missing = []
            for i, handle, reference in answers:
                try:
                    found[i] = self._ray.get(reference)
                except self._ray.exceptions.RayActorError:
                    missing.append(i)
                    self._bury(handle)
                except self._ray.exceptions.RayTaskError as error:
                    raise error.cause if isinstance(error.cause, Exception) else error from None
            if not missing:
                self._spare = self._spare or self._new()
                return found
        raise RuntimeError(f"evaluators died {TRIES} times over the same work")

    def _bury(self, dead: Any) -> None:
        """Free a dead evaluator's place; it may have had several pieces of work."""
        if dead in self._handles:
            self._handles[self._handles.index(dead)] = None
            self._begun.pop(dead)
            self.restarts += 1

    def __call__(self, policies: Any, episodes: int, key: Key[Array, ""], *, explore: bool) -> Results:
        """See `runtime.evaluate.Evaluator`; each evaluator plays a share of the episodes."""
        count = min(len(self._handles), episodes)
        shares = np.full(count, episodes // count)
        shares[: episodes % count] += 1
        sent = self._ray.put(on_host(policies))
        keys = [np.asarray(jax.random.key_data(jax.random.fold_in(key, k))) for k in range(count)]
        work: list[Any] = [
            (lambda handle, n=int(n), k=k: handle.evaluate.remote(sent, n, k, explore))
            for n, k in zip(shares, keys, strict=True)
        ]
        parts = self.share(work)
        join = lambda *xs: np.concatenate(xs)
        names = parts[0].returns
        returns = {name: join(*(p.returns[name] for p in parts)) for name in names}
        return Results(returns, join(*(p.length for p in parts)), join(*(p.finished for p in parts)))

    def tournament(self, stacks: Any, profiles: np.ndarray, games: int, key: Key[Array, ""]) -> Records:
        """See `runtime.tournament.Tournament`; each evaluator plays a share of the profiles."""
        blocks = [b for b in np.array_split(np.arange(len(profiles)), len(self._handles)) if len(b)]
        sent = self._ray.put(on_host(stacks))
        keys = [np.asarray(jax.random.key_data(jax.random.fold_in(key, k))) for k in range(len(blocks))]
        work: list[Any] = [
            (lambda handle, b=b, k=k: handle.play.remote(sent, profiles[b], games, k))
            for b, k in zip(blocks, keys, strict=True)
        ]
        found: Records = jax.tree.map(lambda *xs: np.concatenate(xs), *self.share(work))
        return found
