"""The Ray runtime's loop: gather unrolls of actors, let learners learn from them, say how old their policies were."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ludus.core.algorithm import Remembers
from ludus.core.errors import UsageError
from ludus.core.host import HostEnvironment
from ludus.runtime.cast import Opposition
from ludus.runtime.device import Report, TrainState
from ludus.runtime.host.program import cores
from ludus.runtime.one_seed import OneSeed
from ludus.runtime.ray.cluster import connect, teller
from ludus.runtime.ray.crew import AHEAD, Crew
from ludus.runtime.sampler import on_host


def ray_program(
    algorithm: Any,
    env: Any,
    num_envs: int,
    steps: int,
    seeds: int,
    on_nan: Literal["stop", "skip"],
    learns: tuple[str, ...],
    where: Any,
    seed: int,
    say: Callable[[str], None],
) -> RayProgram:
    """What trains on a cluster. Raises `UsageError` where numbers do not fit together."""
    if seeds != 1:
        raise UsageError(f"a cluster trains one seed at a time, not {seeds}; start a run for each --seed")
    total = where.envs_per_actor * where.actors or num_envs
    if total % where.actors:
        raise UsageError(f"{total} environments cannot be shared out evenly among {where.actors} actors")
    if where.actors % where.learners:
        raise UsageError(f"{where.actors} actors cannot be shared out evenly among {where.learners} learners")
    if where.inference_servers and not isinstance(env, HostEnvironment):
        raise UsageError(
            f"{env.spec.name} is compiled together with the policy that plays it, so its actors decide for themselves; "
            f"leave --inference-servers at 0"
        )
    if where.inference_servers > where.actors:
        raise UsageError(f"{where.inference_servers} inference servers are more than {where.actors} actors")
    return RayProgram(algorithm, env, total, steps, where, on_nan, learns, seed, say)


@dataclass(eq=False)
class RayProgram(OneSeed):
    """One algorithm learning one game on a cluster; the face of `runtime.device.Program`.

    The state lives with the learners: `fetch` brings it here.
    """

    algorithm: Any
    env: Any
    num_envs: int
    steps: int
    where: Any
    on_nan: Literal["stop", "skip"] = "stop"
    learns: tuple[str, ...] = ()
    seed: int = 0
    say: Callable[[str], None] = lambda text: None
    seeds: int = 1
    devices: int = 1

    crew: Crew | None = field(default=None, init=False)
    _run: str = field(default="", init=False)  # its name in the cluster's status
    _told: float = field(default=0.0, init=False)
    _status: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        problem = self.algorithm.check(self.spec, self.num_envs // self.where.learners)
        if problem:
            raise UsageError(problem)

    @cached_property
    def waits(self) -> bool:
        """Whether every unroll must be of the newest policies: whether the method can do nothing with older ones."""
        return getattr(self.algorithm, "clip_rho", None) is None and not isinstance(self.algorithm, Remembers)

    @property
    def learner_devices(self) -> int:
        """How many cores of its machine a learner that is alone splits the environments over."""
        splits = getattr(self.algorithm, "splits", True)
        if self.where.learners > 1 or not splits:
            return 1
        for devices in range(min(cores(), 8), 1, -1):
            share, rest = divmod(self.num_envs, devices)
            if not rest and share >= 4 and self.algorithm.check(self.spec, share) is None:
                return devices
        return 1

    def check_memory(self) -> None:
        """Learners are elsewhere: they say themselves what they lack."""

    # Beginning

    def prepare(self) -> None:
        """Connect (what a cluster on this machine consists of ends with the thread that starts it), and let processes
        begin that will have work when there is something to train."""
        if self.crew is None:
            self.crew = Crew(
                connect(self.where),
                self.where,
                self.algorithm,
                self.env,
                self.spec,
                self.num_envs,
                self.learner_devices,
                self.on_nan,
                self.seed,
                self.say,
            )
        self.crew.call_up()

    def compile(self, state: TrainState, against: Opposition | None = None) -> Callable[..., Any]:
        """Give all processes their work, new or resting from another training; returns `call(state, opposition)`."""
        self.prepare()
        assert self.crew is not None
        met = None if against is None else (on_host(against.frozen), on_host(_first(against.matches)))
        self.crew.begin(on_host(_first(state.learner)), int(state.iteration[0]), met)
        self._told = 0.0
        self._run = f"{self.spec.name}-{uuid.uuid4().hex[:6]}"
        return self._call

    # Going on

    def _call(self, state: TrainState, against: Opposition | None = None) -> tuple[TrainState, Report]:
        crew = self.crew
        assert crew is not None
        key, iteration = state.key[0], int(state.iteration[0])
        settings = {} if against is None else {n: np.asarray(x[0]) for n, x in against.matches.settings.items()}
        ahead = 0 if self.waits else AHEAD
        found = []
        for _ in range(self.iterations_per_call):
            progress = self.progress(iteration, against)
            key, key_update = jax.random.split(key)
            data = np.asarray(jax.random.key_data(key_update))
            while (facts := crew.learn(crew.gather(progress, ahead), data, settings)) is None:
                self.say("unrolls were lost with the machine that held them; others are played")
            found.append(facts)
            iteration += 1
        crew.prepare_spare()
        self._tell(crew)
        whole = lambda x: jnp.asarray(x)[None]
        metrics = {n: whole(np.mean([f["metrics"][n] for f in found])) for n in found[0]["metrics"]}
        metrics |= {"cluster/policy_lag": whole(self.mean_lag), "cluster/restarts": whole(float(self.restarts.total()))}
        episodes = jax.tree.map(lambda *xs: whole(sum(np.asarray(x) for x in xs)), *(f["episodes"] for f in found))
        bad = {n: whole(min(f["bad"][n] for f in found)) for n in found[0]["bad"]}
        new = TrainState(state.learner, (), key[None], jnp.full(1, iteration, jnp.int32))  # type: ignore[arg-type]
        return new, Report(episodes, metrics, bad)

    def fetch(self, state: TrainState) -> TrainState:
        """The state with its arrays here."""
        if self.crew is None or not self.crew.learner_pids:  # nothing was given to learners yet
            return state
        learner = jax.tree.map(lambda x: jnp.asarray(x)[None], self.crew.fetch())
        return TrainState(learner, state.actors, state.key, state.iteration)

    def close(self) -> None:
        """End the processes of this run; a cluster that was started for it ends with this process."""
        if self.crew is not None:
            self.crew.end()
        self.crew = self._status = None

    def rest(self) -> None:
        """Processes take seconds to begin, so they stay; where a cluster is not Ludus's own, others may want them."""
        if self.where.address or os.environ.get("RAY_ADDRESS"):
            self.close()

    # What is known

    @property
    def restarts(self) -> Counter:
        """How often processes were replaced, by role."""
        return Counter() if self.crew is None else self.crew.restarts

    @property
    def lag(self) -> Counter:
        """Unrolls by how many updates their policies were old when they were learned from."""
        return Counter() if self.crew is None else self.crew.lag

    @property
    def mean_lag(self) -> float:
        """In updates."""
        return sum(k * n for k, n in self.lag.items()) / max(1, self.lag.total())

    def facts(self) -> dict[str, Any]:
        """How old policies were when their unrolls were learned from, in updates, and which processes were replaced."""
        if self.crew is None:
            return {}
        status = self.crew.status
        known = {n: status[n] for n in ("policy_lag", "restarts", "environment_faults")}
        return {**known, "recovery_seconds": self.crew.recovery}

    def _tell(self, crew: Crew) -> None:
        """Tell whoever asks for the cluster's status."""
        now = time.monotonic()
        if now - self._told < 1.0:
            return
        since, self._told = self._told, now
        consumed, crew.consumed = crew.consumed, 0
        per = self.num_envs // self.where.actors * self.algorithm.rollout_length
        facts = {
            "environment": self.spec.name,
            "driver": os.getpid(),
            "steps_per_second": consumed * per / (now - since) if since else None,
            **crew.status,
        }
        with contextlib.suppress(Exception):  # a status that nobody can be told of stops no training
            self._status = self._status or teller(crew.ray)
            self._status.tell.remote(self._run, facts)


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[0], tree)
