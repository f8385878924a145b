"""Workers that do not wait for each other: threads that play, compute gradients at parameters that may be old by then,
and apply them to the shared ones one after another."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ludus.core.algorithm import Learner
from ludus.core.errors import UsageError
from ludus.runtime.device import Report, TrainState
from ludus.runtime.finite import CLEAN
from ludus.runtime.one_seed import OneSeed
from ludus.runtime.sampler import add_episodes, sampler_for
from ludus.runtime.setup import compiler_options


@dataclass(frozen=True)
class AsyncProgram(OneSeed):
    """An algorithm with `gradients` and `apply`, learning with several workers; the face of `runtime.device.Program`.

    Every worker has its share of the environments. Their order is that of the machine's threads, so runs of several
    workers cannot be repeated exactly, and who resumes begins new episodes.
    """

    algorithm: Any
    env: Any
    num_envs: int
    steps: int
    workers: int
    on_nan: Literal["stop", "skip"] = "stop"
    seed: int = 0
    timeout: float = 60.0
    seeds: int = 1
    devices: int = 1

    _held: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.seeds != 1:
            raise UsageError(f"workers that do not wait train one seed at a time, not {self.seeds}")
        if self.num_envs % self.workers:
            raise UsageError(f"{self.num_envs} environments cannot be shared out evenly among {self.workers} workers")
        problem = self.algorithm.check(self.spec, self.num_envs // self.workers)
        if problem:
            raise UsageError(problem)

    def compile(self, state: TrainState) -> Any:
        """Make the workers; returns `call(state)`."""
        self.close()
        share = self.num_envs // self.workers
        names = tuple(g.name for g in self.spec.groups)
        host = {"workers": 1, "timeout": self.timeout}
        begun = self.seed + int(state.iteration[0])
        self._held["samplers"] = [
            sampler_for(
                self.env, share, self.algorithm.rollout_length, begun * 1000 + k, self.on_nan, learns=names, **host
            )
            for k in range(self.workers)
        ]
        self._held["lag"] = Counter()
        return self._call

    @cached_property
    def _gradients(self) -> Any:
        return jax.jit(
            lambda learner, rollout, key: self.algorithm.gradients(learner, rollout, key=key),
            compiler_options=compiler_options(),
        )

    @cached_property
    def _apply(self) -> Any:
        return jax.jit(self.algorithm.apply, compiler_options=compiler_options())

    @property
    def lag(self) -> Counter:
        """Gradients by how many others were applied between their parameters and them."""
        found: Counter = self._held["lag"]
        return found

    def _call(self, state: TrainState, against: Any = None) -> tuple[TrainState, Report]:
        shared = jax.tree.map(lambda x: x[0], state.learner.shared)
        per_env = jax.tree.map(lambda x: x[0], state.learner.per_env)
        share = self.num_envs // self.workers
        work = _Work(shared, int(state.iteration[0]), self.iterations_per_call * self.workers)
        key, own_keys = jax.random.split(state.key[0])
        parts = [jax.tree.map(lambda x, k=k: x[k * share : (k + 1) * share], per_env) for k in range(self.workers)]
        total = self.calls * self.iterations_per_call

        def run(k: int) -> None:
            try:
                self._work(work, k, parts, jax.random.fold_in(own_keys, k), total)
            except Exception as error:  # told to whoever waits for all
                work.fail(error)

        threads = [threading.Thread(target=run, args=(k,), daemon=True) for k in range(self.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if work.error is not None:
            raise work.error
        joined = jax.tree.map(lambda *xs: jnp.concatenate(xs), *parts)
        whole = lambda tree: jax.tree.map(lambda x: jnp.asarray(x)[None], tree)
        learner = whole(Learner(work.shared, joined))
        iteration = jnp.full(1, int(state.iteration[0]) + self.iterations_per_call, jnp.int32)
        mean = {n: np.mean([float(m[n]) for m in work.metrics]) for n in work.metrics[0]}
        bad = {n: min(int(b.get(n, CLEAN)) for b in work.bad) for n in work.bad[0]}
        report = Report(add_episodes(work.episodes), mean, bad)  # type: ignore[arg-type]
        return TrainState(learner, (), key[None], iteration), whole(report)  # type: ignore[arg-type]

    def _work(self, work: _Work, k: int, parts: list[Any], key: Key[Array, ""], total: int) -> None:
        """One worker: copy the parameters, play, compute gradients, apply them."""
        while (turn := work.take()) is not None:
            shared, version = work.read()
            learner = Learner(shared, parts[k])
            progress = min(1.0, (work.iteration + turn / self.workers) / total)
            policies = self.algorithm.policy(learner)
            rollout, episodes, bad, _ = self._held["samplers"][k].sample(policies, progress)
            gradients, metrics = self._gradients(learner, rollout, jax.random.fold_in(key, turn))
            parts[k] = gradients.per_env
            with work.lock:
                work.shared = self._apply(Learner(work.shared, ()), gradients, rollout.progress).shared
                self.lag[work.version - version] += 1
                work.version += 1
                work.metrics.append(metrics)
                work.episodes.append(episodes)
                work.bad.append(bad)

    def facts(self) -> dict[str, Any]:
        """How old gradients were when they were applied, in other gradients."""
        return {"gradient_lag": {str(k): n for k, n in sorted(self._held.get("lag", {}).items())}}

    def close(self) -> None:
        """End what the workers hold."""
        for sampler in self._held.pop("samplers", []):
            sampler.close()


class _Work:
    """What the workers of one call share."""

    def __init__(self, shared: Any, iteration: int, turns: int):
        self.shared, self.iteration, self.version = shared, iteration, 0
        self.lock = threading.Lock()
        self.metrics: list[Any] = []
        self.episodes: list[Any] = []
        self.bad: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self._turns, self._taken = turns, 0

    def take(self) -> int | None:
        """The number of the next rollout; None when there are enough."""
        with self.lock:
            if self._taken == self._turns or self.error is not None:
                return None
            self._taken += 1
            return self._taken - 1

    def read(self) -> tuple[Any, int]:
        """The shared parameters as they are now."""
        with self.lock:
            return self.shared, self.version

    def fail(self, error: Exception) -> None:
        """Let everybody stop."""
        with self.lock:
            self.error = self.error or error
