"""The host runtime: environments in processes, decisions and learning in this one. The twin of `runtime.device`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from ludus.core.algorithm import Algorithm, Learner
from ludus.core.errors import UsageError
from ludus.core.host import HostEnvironment
from ludus.core.spec import GameSpec
from ludus.runtime.cast import Cast, Matches, Opposition, Records, team_returns, team_scores
from ludus.runtime.device import Report, TrainState
from ludus.runtime.host.collect import Collector, Ended
from ludus.runtime.host.pool import Pool
from ludus.runtime.inference import Inference
from ludus.runtime.one_seed import OneSeed
from ludus.runtime.rollout import Episodes, Policies
from ludus.runtime.update import Update

# Compiled, because array by array it takes longer than an update.
_first = jax.jit(lambda tree: jax.tree.map(lambda x: x[0], tree))
_whole = jax.jit(lambda tree: jax.tree.map(lambda x: jnp.asarray(x)[None], tree))


class Lives(eqx.Module):
    """What of environments in processes outlasts the processes."""

    episodes: Int[Array, "seed env"]  # how many each has begun
    key: Key[Array, "seed env"]  # what its decisions are drawn from


@dataclass(frozen=True)
class HostProgram(OneSeed):
    """One algorithm learning one game that is stepped on the host; the face of `runtime.device.Program`.

    Environments do not outlast their processes: whoever resumes begins new episodes, never one that was played.
    """

    algorithm: Algorithm
    env: HostEnvironment  # each process makes its own, by name and options
    num_envs: int
    steps: int
    workers: int = 0  # 0: one for each core
    devices: int = 1
    on_nan: Literal["stop", "skip"] = "stop"
    learns: tuple[str, ...] = ()  # the groups that the learner may play; empty: all
    timeout: float = 60.0  # seconds that a step of the environments of one process may take
    seed: int = 0
    say: Callable[[str], None] = print
    seeds: int = 1

    _held: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.num_envs < 1 or self.steps < 1:
            raise UsageError("steps and num_envs must be at least 1")
        if self.seeds != 1:
            raise UsageError(
                f"environments on the host train one seed at a time, not {self.seeds}; start a run for each --seed"
            )
        if self.num_envs % self.devices:
            raise UsageError(f"{self.num_envs} environments do not divide over {self.devices} devices")
        if not 1 <= self.devices <= len(jax.devices()):
            raise UsageError(f"there are {len(jax.devices())} devices here, not {self.devices} devices")
        if self.devices > 1 and not getattr(self.algorithm, "splits", True):
            raise UsageError(f"{type(self.algorithm).__name__} learns on one device, not {self.devices}")
        problem = self.algorithm.check(self.spec, self.num_envs // self.devices)
        if problem:
            raise UsageError(problem)

    @property
    def processes(self) -> int:
        """How many processes of environments there are."""
        return min(self.workers or cores(), self.num_envs)

    def policies_of(self, learner: Learner, against: Opposition | None) -> Policies:
        """Who plays while this learner learns."""
        own = self.algorithm.policy(learner)
        if against is None:
            return own
        matches = jax.tree.map(lambda x: x[0], against.matches)
        return Cast(own, against.frozen, matches, self.env.spec)

    def lives(self, key: Key[Array, ""]) -> Lives:
        """How many episodes each environment has begun, and what its decisions are drawn from."""
        own = jax.vmap(jax.random.split)(jax.random.split(key, self.num_envs))[:, 1]
        return Lives(jnp.zeros((1, self.num_envs), jnp.int32), own[None])

    def compile(self, state: TrainState, against: Opposition | None = None) -> Callable[..., Any]:
        """Start the processes; returns `call(state, opposition)`, which plays and learns for several iterations."""
        self.close()
        pool = Pool(
            *origin(self.env),
            self.env.spec,
            self.num_envs,
            self.processes,
            seed=self.seed,
            timeout=self.timeout,
            lives=np.asarray(state.actors.episodes[0]),  # type: ignore[attr-defined]
        )
        inference = Inference(self.env.spec, self.num_envs)
        learner = _first(state.learner)
        inference.publish(self.policies_of(learner, against), 0)
        inference.begin(state.actors.key[0])
        names = tuple(g.name for g in self.spec.groups)
        length = self.algorithm.rollout_length
        collector = Collector(pool, inference, length, stop_on_nan=self.on_nan == "stop", learns=names)
        update = Update(self.algorithm, self.num_envs, jax.devices()[: self.devices], on_nan=self.on_nan)
        self._held.update(pool=pool, collector=collector, inference=inference, update=update)
        return self._call

    @property
    def pool(self) -> Pool:
        """The processes, once they run."""
        found: Pool = self._held["pool"]
        return found

    @property
    def collector(self) -> Collector:
        """What plays, once it does."""
        found: Collector = self._held["collector"]
        return found

    def _call(self, state: TrainState, against: Opposition | None = None) -> tuple[TrainState, Report]:
        inference, update = self._held["inference"], self._held["update"]
        learner = update.place(_first(state.learner))
        key, iteration = state.key[0], int(state.iteration[0])
        settings = {} if against is None else {n: x[0] for n, x in against.matches.settings.items()}
        reports = []
        for _ in range(self.iterations_per_call):
            progress = self.progress(iteration, against)
            inference.publish(self.policies_of(learner, against), iteration)
            before = len(self.pool.faults.recovery)
            rollout, ended, _ = self.collector.collect(progress)
            for seconds in self.pool.faults.recovery[before:]:
                self.say(f"{self.pool.faults.messages[-1]}; replaced within {seconds:.1f} s")
            key, key_update = jax.random.split(key)
            learner, metrics, bad = update(learner, rollout, key_update, settings)
            iteration += 1
            matches = None if against is None else jax.tree.map(lambda x: x[0], against.matches)
            reports.append(Report(episodes_of(self.env.spec, ended, matches), metrics, bad))
        mean = {name: jnp.stack([r.metrics[name] for r in reports]).mean() for name in reports[0].metrics}
        episodes = jax.tree.map(lambda *xs: jnp.asarray(sum(xs)), *(r.episodes for r in reports))
        first = jax.tree.map(lambda *xs: jnp.stack(xs).min(), *(r.bad for r in reports))
        lives: Any = Lives(jnp.array(self.pool.board.life, jnp.int32)[None], jnp.copy(inference.keys)[None])
        learner, report = _whole((learner, Report(episodes, mean, first)))
        return TrainState(learner, lives, key[None], jnp.full(1, iteration, jnp.int32)), report

    def facts(self) -> dict[str, Any]:
        """What went wrong with environments, and how long it took to replace their processes."""
        if "pool" not in self._held:
            return {}
        faults = self.pool.faults
        return {"environment_faults": faults.told, "recovery_seconds": faults.recovery}

    def close(self) -> None:
        """End the processes."""
        if "pool" in self._held:
            self._held.pop("pool").close()

    def __del__(self) -> None:
        if contextlib is not None:  # not at the very end of the interpreter
            with contextlib.suppress(Exception):
                self.close()


def origin(env: HostEnvironment) -> tuple[str, dict[str, Any]]:
    """The name and the options from which other processes make a game again."""
    if env.origin is None:
        raise UsageError(
            f"{env.spec.name} is played in processes of its own, which make it by its name: give `module:function`"
        )
    return env.origin


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def episodes_of(spec: GameSpec, ended: Ended, matches: Matches | None) -> Episodes:
    """Sums over the episodes that ended."""
    join = lambda parts, width: np.concatenate(parts) if parts else np.zeros((0, width), np.float32)
    returns = {g.name: join(ended.returns[g.name], g.size) for g in spec.groups}
    length = np.concatenate(ended.length) if ended.length else np.zeros(0)
    means = {name: x.mean(-1) for name, x in returns.items()}
    total = lambda x: np.float32(x.sum())
    return Episodes(
        count=np.float32(len(length)),  # type: ignore[arg-type]
        length=total(length),  # type: ignore[arg-type]
        returns={name: total(x) for name, x in means.items()},  # type: ignore[misc]
        squares={name: total(x * x) for name, x in means.items()},  # type: ignore[misc]
        skipped=np.float32(ended.skipped),  # type: ignore[arg-type]
        records=None if matches is None else _records(spec, ended, returns, matches),
    )


def _records(spec: GameSpec, ended: Ended, returns: dict[str, np.ndarray], matches: Matches) -> Records:
    """Who beat whom."""
    profiles, teams = matches.weights.shape[0], len(spec.teams)
    sums = [np.zeros((profiles, teams, teams), np.float32) for _ in range(3)]
    games = np.zeros((profiles, teams), np.float32)
    if ended.profile:
        at = np.concatenate(ended.profile), np.concatenate(ended.seat)
        earned = team_returns(spec, {name: jnp.asarray(x) for name, x in returns.items()})
        score = np.asarray(team_scores(spec, earned))
        value = np.asarray(earned)
        np.add.at(games, at, 1.0)
        for held, x in zip(sums, (value, value**2, score), strict=True):
            np.add.at(held, at, x)
    return Records(games, *sums)  # type: ignore[arg-type]
