"""The Ray runtime's loop: ask actors for unrolls, hand them to learners, publish what was learned, replace the dead.

An actor is asked for a few unrolls ahead and no more, so queues are bounded and nobody runs away; who does not wait
for the newest policies says how old those were that it had. Processes may die at any moment: an actor's unroll that
was not handed over is lost, a learner goes on from the state that was last fetched, for a checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ludus.core.algorithm import Learner, Remembers
from ludus.core.errors import UsageError
from ludus.core.host import HostEnvironment
from ludus.runtime.cast import Opposition
from ludus.runtime.device import Report, TrainState
from ludus.runtime.host.program import cores
from ludus.runtime.one_seed import OneSeed
from ludus.runtime.ray.cluster import NAMESPACE, STATUS, Status, connect
from ludus.runtime.ray.roles import Actor, LearnerRole, Server, Shipped
from ludus.runtime.sampler import on_host

AHEAD = 2  # unrolls that an actor is asked for beyond the one that is learned from, where it need not wait
STARTING = 120.0  # seconds that a process may take to begin
PATIENCE = 0.005  # seconds that an inference server's batch waits for those who are late


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


@dataclass
class Slot:
    """An actor's place: who stands there, and what it was asked for."""

    handle: Any = None
    life: int = -1
    asked: deque = field(default_factory=deque)  # (reference to facts, reference to the unroll, version, since when)
    expected: int = 0  # the number of its next unroll
    born: float = 0.0
    died: float = 0.0
    pid: int = 0


@dataclass(frozen=True)
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

    _held: dict[str, Any] = field(default_factory=dict, compare=False)

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
        """Connect: what a cluster on this machine consists of ends with the thread that starts it."""
        connect(self.where)

    def compile(self, state: TrainState, against: Opposition | None = None) -> Callable[..., Any]:
        """Start all processes; returns `call(state, opposition)`."""
        self.close()
        w = self.where
        self._held.update(
            ray=connect(w),
            slots=[Slot() for _ in range(w.actors)],
            servers=[],
            learners=[],
            saved=on_host(jax.tree.map(lambda x: x[0], state.learner)),
            version=int(state.iteration[0]),
            lag=Counter(),
            restarts=Counter(),
            recovery=[],
            consumed=0,
            run=f"{self.spec.name}-{uuid.uuid4().hex[:6]}",
            told=0.0,
            against=None if against is None else (on_host(against.frozen), on_host(_first(against.matches))),
        )
        waiting = [self._spare() for _ in range(w.actors)]  # begin at the same time as the learners
        self._start_learners()
        for k in range(w.inference_servers):
            self._held["servers"].append(self._new_server(k))
        for index, actor in enumerate(waiting):
            self._held["spare"] = actor
            self._launch(index)
        return self._call

    def _remote(self, role: type, **options: Any) -> Any:
        return self._held["ray"].remote(num_cpus=1, max_restarts=0, **options)(role)

    def _start_learners(self) -> None:
        """Learners that know what was last fetched; they begin together."""
        ray, w, held = self._held["ray"], self.where, self._held
        for old in held["learners"]:
            with contextlib.suppress(Exception):
                ray.kill(old)
        role = self._remote(LearnerRole)
        arguments = (self.algorithm, self.num_envs, self.on_nan)
        held["learners"] = [role.remote(*arguments, k, w.learners, self.learner_devices) for k in range(w.learners)]
        address = ray.get(held["learners"][0].address.remote(), timeout=STARTING)
        ray.get([x.join.remote(address) for x in held["learners"]], timeout=STARTING)
        saved = ray.put(held["saved"])
        held["learner_pids"] = ray.get([x.begin.remote(saved) for x in held["learners"]], timeout=STARTING)
        held["published"] = held["learners"][0].policies.remote()

    def _new_server(self, k: int) -> Any:
        ray = self._held["ray"]
        server = self._remote(Server, max_concurrency=1000).remote(Shipped.of(self.env), self.num_envs, PATIENCE)
        if self._held["against"] is not None:
            ray.get(server.meet.remote(*self._held["against"]), timeout=STARTING)
        ray.get(server.publish.remote(self._held["published"], self._held["version"]), timeout=STARTING)
        return server

    def _spare(self) -> Any:
        """A process that could be any actor; made before it is needed, because that takes seconds."""
        return self._remote(Actor).remote(Shipped.of(self.env))

    def _launch(self, index: int, *, anew: bool = False) -> None:
        """An actor for a place, by another process or by the same one `anew`; it owes what its predecessor did."""
        held, w, slot = self._held, self.where, self._held["slots"][index]
        if slot.handle is not None:
            slot.died = time.monotonic()
            if not anew:
                with contextlib.suppress(Exception):
                    held["ray"].kill(slot.handle)
        if not anew:
            slot.handle = held.pop("spare", None) or self._spare()
        slot.life, slot.expected, slot.born = slot.life + 1, 0, time.monotonic()
        slot.asked.clear()
        options = {
            "num_envs": self.num_envs // w.actors,
            "length": self.algorithm.rollout_length,
            "on_nan": self.on_nan,
            "learns": tuple(g.name for g in self.spec.groups),
            "seed": self.seed + held["version"],
        }
        if isinstance(self.env, HostEnvironment):
            per = max(1, (w.workers or w.actors) // w.actors)
            options |= {"workers": min(per, options["num_envs"]), "timeout": w.env_timeout}
        server = held["servers"][index % len(held["servers"])] if held["servers"] else None
        slot.handle.take.remote(index, slot.life, options, server)
        if held["against"] is not None:
            slot.handle.meet.remote(*held["against"])

    # Going on

    def _call(self, state: TrainState, against: Opposition | None = None) -> tuple[TrainState, Report]:
        key, iteration = state.key[0], int(state.iteration[0])
        settings = {} if against is None else {n: np.asarray(x[0]) for n, x in against.matches.settings.items()}
        found = []
        for _ in range(self.iterations_per_call):
            progress = self.progress(iteration, against)
            key, key_update = jax.random.split(key)
            data = np.asarray(jax.random.key_data(key_update))
            while (facts := self._learn(self._gather(progress), data, settings)) is None:
                self.say("unrolls were lost with the machine that held them; others are played")
            found.append(facts)
            iteration += 1
        if "spare" not in self._held:
            self._held["spare"] = self._spare()
        self._tell()
        whole = lambda x: jnp.asarray(x)[None]
        metrics = {n: whole(np.mean([f["metrics"][n] for f in found])) for n in found[0]["metrics"]}
        metrics |= {"cluster/policy_lag": whole(self.mean_lag), "cluster/restarts": whole(float(self.restarts.total()))}
        episodes = jax.tree.map(lambda *xs: whole(sum(np.asarray(x) for x in xs)), *(f["episodes"] for f in found))
        bad = {n: whole(min(f["bad"][n] for f in found)) for n in found[0]["bad"]}
        new = TrainState(state.learner, (), key[None], jnp.full(1, iteration, jnp.int32))  # type: ignore[arg-type]
        return new, Report(episodes, metrics, bad)

    def _ask(self, index: int, progress: float) -> None:
        """Ask an actor for an unroll by the newest policies."""
        held, slot = self._held, self._held["slots"][index]
        role = slot.handle.sample.options(num_returns=2)
        facts, sample = role.remote([held["published"]], held["version"], progress)
        slot.asked.append((facts, sample, held["version"], time.monotonic()))

    def _gather(self, progress: float) -> list[Any]:
        """An unroll of every actor, in order: of the newest policies where the method needs them."""
        held, ray = self._held, self._held["ray"]
        slots: list[Slot] = held["slots"]
        depth = 1 if self.waits else 1 + AHEAD
        for index, slot in enumerate(slots):
            while len(slot.asked) < depth:
                self._ask(index, progress)
        taken: dict[int, Any] = {}
        begin = time.monotonic()  # who was not listened to while learners learned was not silent
        while len(taken) < len(slots):
            open_ = {slots[i].asked[0][0]: i for i in range(len(slots)) if i not in taken}
            ready, _ = ray.wait(list(open_), num_returns=1, timeout=1.0)
            for reference in ready:
                index = open_[reference]
                facts = self._facts(index, reference, progress)
                if facts is not None:
                    _, sample, version, _ = slots[index].asked.popleft()
                    held["lag"][held["version"] - version] += 1
                    taken[index] = sample
            self._replace_silent(taken, progress, begin)
        return [taken[index] for index in range(len(slots))]

    def _facts(self, index: int, reference: Any, progress: float) -> dict[str, Any] | None:
        """What is known of an unroll; None where its actor died and another was asked."""
        held, slot = self._held, self._held["slots"][index]
        try:
            facts: dict[str, Any] = held["ray"].get(reference)
        except held["ray"].exceptions.RayTaskError as error:  # raised in the actor; it may be a RayActorError too
            cause = error.cause if isinstance(getattr(error, "cause", None), Exception) else error
            if not isinstance(cause, held["ray"].exceptions.RayActorError):
                raise cause from None
            whose = "inference server" if held["servers"] else "learner"
            self._restart_servers() if held["servers"] else self._restart_unheard_learners()
            self._restart(index, f"actor {index} lost its {whose}", progress, anew=True)
            return None
        except held["ray"].exceptions.RayActorError as error:
            self._restart(index, f"actor {index} died: {_short(error)}", progress)
            return None
        if facts["life"] != slot.life or facts["number"] != slot.expected:
            raise RuntimeError(
                f"unroll {facts['number']} of actor {index}, life {facts['life']}, came where {slot.expected} of life "
                f"{slot.life} was expected"
            )
        slot.expected += 1
        if slot.died:
            held["recovery"].append(("actor", time.monotonic() - slot.died))
            slot.died = 0.0
        slot.pid = facts["pid"]
        return facts

    def _restart(self, index: int, why: str, progress: float, *, anew: bool = False) -> None:
        self._held["restarts"]["actor"] += 1
        self.say(f"{why}; it begins anew" if anew else f"{why}; replaced")
        self._launch(index, anew=anew)
        self._ask(index, progress)

    def _restart_servers(self) -> None:
        """New inference servers in the places of dead ones; their actors are replaced when they complain."""
        held, ray = self._held, self._held["ray"]
        for k, server in enumerate(held["servers"]):
            try:
                ray.get(server.facts.remote(), timeout=5)
            except Exception:  # dead, or as good as that
                begin = time.monotonic()
                held["servers"][k] = self._new_server(k)
                held["restarts"]["inference server"] += 1
                held["recovery"].append(("inference server", time.monotonic() - begin))

    def _restart_unheard_learners(self) -> None:
        """New learners, if those that there are died before anybody had their policies."""
        try:
            self._held["ray"].get(self._held["published"], timeout=STARTING)
        except self._held["ray"].exceptions.RayActorError:
            self._held["restarts"]["learner"] += 1
            self.say("a learner died before it gave its policies; all go on from the last checkpoint")
            self._start_learners()

    def _replace_silent(self, taken: dict[int, Any], progress: float, begin: float) -> None:
        """Replace actors that say nothing for too long after they were asked, and after somebody began to listen."""
        limit = self.where.env_timeout
        for index, slot in enumerate(self._held["slots"]):
            if index in taken or (slot.expected == 0 and time.monotonic() - slot.born < STARTING):
                continue
            if time.monotonic() - max(begin, slot.asked[0][3]) > limit * (1 + len(slot.asked)):
                self._restart(index, f"actor {index} was silent for {limit:.0f} s", progress)

    def _learn(self, samples: list[Any], data: np.ndarray, settings: dict[str, Any]) -> dict[str, Any] | None:
        """One update; learners that die begin anew from what was last fetched, and learn from the same unrolls. None
        where those are lost."""
        held, ray, w = self._held, self._held["ray"], self.where
        share = len(samples) // w.learners
        died = 0.0
        while True:
            try:
                asked = [
                    x.update.options(num_returns=2).remote(samples[k * share : (k + 1) * share], data, settings)
                    for k, x in enumerate(held["learners"])
                ]
                facts = ray.get([a[0] for a in asked], timeout=self.where.env_timeout + STARTING)
                break
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
                died = died or time.monotonic()
                held["restarts"]["learner"] += 1
                self.say(f"a learner died: {_short(error)}; all go on from the last checkpoint")
                self._start_learners()
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, ray.exceptions.ObjectLostError):
                    return None
                if w.learners > 1 and "gloo" in str(error).lower():
                    died = died or time.monotonic()
                    held["restarts"]["learner"] += 1
                    self._start_learners()
                    continue
                raise error.cause if isinstance(error.cause, Exception) else error from None
        if died:
            held["recovery"].append(("learner", time.monotonic() - died))
        held["published"] = asked[0][1]
        held["version"] += 1
        held["consumed"] += len(samples)
        for server in held["servers"]:
            server.publish.remote(held["published"], held["version"])
        total: dict[str, Any] = facts[0]
        for other in facts[1:]:
            total["episodes"] = jax.tree.map(np.add, total["episodes"], other["episodes"])
            total["faults"] |= other["faults"]
        held["faults"] = total["faults"]
        return total

    # What is known

    @property
    def restarts(self) -> Counter:
        """How often processes were replaced, by role."""
        found: Counter = self._held.get("restarts", Counter())
        return found

    @property
    def lag(self) -> Counter:
        """Unrolls by how many updates their policies were old when they were learned from."""
        found: Counter = self._held.get("lag", Counter())
        return found

    @property
    def mean_lag(self) -> float:
        """In updates."""
        return sum(k * n for k, n in self.lag.items()) / max(1, self.lag.total())

    @property
    def recovery(self) -> list[tuple[str, float]]:
        """Seconds from noticing a death to the successor's first work, by role."""
        found: list[tuple[str, float]] = self._held["recovery"]
        return found

    @property
    def pids(self) -> dict[str, list[int]]:
        """Of the processes, by role, as far as they are known."""
        ray, held = self._held["ray"], self._held
        servers = [ray.get(s.facts.remote())["pid"] for s in held["servers"]]
        return {"actor": [s.pid for s in held["slots"]], "learner": held["learner_pids"], "inference server": servers}

    def facts(self) -> dict[str, Any]:
        """How old policies were when their unrolls were learned from, in updates, and which processes were replaced."""
        return {
            "policy_lag": {str(k): n for k, n in sorted(self.lag.items())},
            "restarts": dict(self.restarts),
            "recovery_seconds": self._held.get("recovery", []),
            "environment_faults": {str(k): f for k, f in self._held.get("faults", {}).items() if f},
        }

    def _tell(self) -> None:
        """Tell whoever asks for the cluster's status."""
        held = self._held
        now = time.monotonic()
        if now - held["told"] < 1.0:
            return
        since, held["told"] = held["told"], now
        consumed, held["consumed"] = held["consumed"], 0
        per = self.num_envs // self.where.actors * self.algorithm.rollout_length
        facts = {
            "environment": self.spec.name,
            "driver": os.getpid(),
            "roles": {"actors": len(held["slots"]), "learners": len(held["learners"]), "servers": len(held["servers"])},
            "steps_per_second": consumed * per / (now - since) if since else None,
            "queue_depths": [len(s.asked) for s in held["slots"]],
            "updates": held["version"],
            "policy_lag": {str(k): n for k, n in sorted(self.lag.items())},
            "restarts": dict(self.restarts),
            "environment_faults": {str(k): f for k, f in held.get("faults", {}).items() if f},
        }
        with contextlib.suppress(Exception):  # a status that nobody can be told of stops no training
            if "status" not in held:
                role = held["ray"].remote(num_cpus=0, name=STATUS, namespace=NAMESPACE, get_if_exists=True)(Status)
                held["status"] = role.remote()
            held["status"].tell.remote(held["run"], facts)

    def fetch(self, state: TrainState) -> TrainState:
        """The state with its arrays here. A learner that dies later begins again from this."""
        held = self._held
        if "learners" not in held:
            return state
        while True:
            try:
                parts = held["ray"].get([x.fetch.remote() for x in held["learners"]], timeout=STARTING)
                break
            except held["ray"].exceptions.RayActorError as error:
                held["restarts"]["learner"] += 1
                self.say(f"a learner died: {_short(error)}; all go on from the last checkpoint")
                self._start_learners()
        per_env = jax.tree.map(lambda *xs: np.concatenate(xs), *(p.per_env for p in parts))
        held["saved"] = Learner(parts[0].shared, per_env)
        whole = jax.tree.map(lambda x: jnp.asarray(x)[None], held["saved"])
        return TrainState(whole, state.actors, state.key, state.iteration)

    def close(self) -> None:
        """End the processes of this run; a cluster that was started for it ends with this process."""
        held = self._held
        if "ray" not in held:
            return
        spare = [held["spare"]] if "spare" in held else []
        for handle in [s.handle for s in held["slots"]] + held["learners"] + held["servers"] + spare:
            with contextlib.suppress(Exception):
                held["ray"].kill(handle)
        held.clear()


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[0], tree)


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
