"""The processes of a run on a cluster: who stands in which place, what each was asked for, who takes whose place.

An actor is asked for a few unrolls ahead and no more, so queues are bounded and nobody runs away. Processes may die at
any moment: an actor's unroll that was not handed over is lost, a learner goes on from the state that was last fetched,
for a checkpoint.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import numpy as np

from ludus.core.algorithm import Learner
from ludus.core.host import HostEnvironment
from ludus.core.spec import GameSpec
from ludus.runtime.ray.roles import Actor, LearnerRole, Server, Shipped

AHEAD = 2  # unrolls that an actor is asked for beyond the one that is learned from, where it need not wait
STARTING = 120.0  # seconds that a process may take to begin
PATIENCE = 0.005  # seconds that an inference server's batch waits for those who are late


@dataclass
class Slot:
    """An actor's place: who stands there, and what it was asked for."""

    handle: Any
    life: int = -1
    asked: deque = field(default_factory=deque)  # (reference to facts, reference to the unroll, version, since when)
    expected: int = 0  # the number of its next unroll
    born: float = 0.0
    died: float = 0.0
    pid: int = 0


@dataclass
class Crew:
    """All processes of one run. Frozen opponents, if any, are there from the beginning."""

    ray: Any  # the package, connected
    where: Any  # a `Placement`
    algorithm: Any
    env: Any
    spec: GameSpec
    num_envs: int  # of all actors together
    learner_devices: int
    on_nan: Literal["stop", "skip"]
    seed: int
    say: Callable[[str], None]

    saved: Any = None  # where a learner begins that takes a dead one's place
    version: int = 0  # of the policies: how many updates made them
    against: tuple[Any, Any] | None = None  # frozen policies, and who meets whom
    slots: list[Slot] = field(default_factory=list)
    servers: list[Any] = field(default_factory=list)
    learners: list[Any] = field(default_factory=list)
    learner_pids: list[int] = field(default_factory=list)
    spare: Any = None  # a process that could be any actor
    published: Any = None  # a reference to the newest policies
    lag: Counter = field(default_factory=Counter)  # unrolls by how many updates their policies were old
    restarts: Counter = field(default_factory=Counter)  # by role
    recovery: list[tuple[str, float]] = field(default_factory=list)  # seconds from noticing a death to its end
    consumed: int = 0  # unrolls since the status was last told
    faults: dict[int, Any] = field(default_factory=dict)  # of environments, by actor

    # Beginning

    def call_up(self) -> None:
        """Let actors and learners begin, which takes them seconds, before they are given anything to do."""
        if not self.slots:
            self.slots = [Slot(self._new_actor()) for _ in range(self.where.actors)]
            self.learners = self._new_learners()

    def begin(self, saved: Learner, version: int, against: tuple[Any, Any] | None) -> None:
        """Go on from a learner: with new processes, or with those of an earlier training."""
        self.saved, self.version, self.against = saved, version, against
        self.call_up()
        if not self.learner_pids:
            self._join_learners()
            self.servers = [self._new_server() for _ in range(self.where.inference_servers)]
        else:
            self._teach_learners()
            self._restart_servers()
            for server in self.servers:
                self._inform(server)
        for index, slot in enumerate(self.slots):
            self._launch(index, slot.handle)

    def _remote(self, role: type, **options: Any) -> Any:
        return self.ray.remote(num_cpus=1, max_restarts=0, **options)(role)

    def _new_learners(self) -> list[Any]:
        count, role = self.where.learners, self._remote(LearnerRole)
        arguments = (self.algorithm, self.num_envs, self.on_nan)
        return [role.remote(*arguments, k, count, self.learner_devices) for k in range(count)]

    def _join_learners(self) -> None:
        """Let learners find each other and know what was last fetched."""
        address = self.ray.get(self.learners[0].address.remote(), timeout=STARTING)
        self.ray.get([x.join.remote(address) for x in self.learners], timeout=STARTING)
        self._teach()

    def _teach(self) -> None:
        """Tell learners what was last fetched."""
        saved = self.ray.put(self.saved)
        self.learner_pids = self.ray.get([x.begin.remote(saved) for x in self.learners], timeout=STARTING)
        self.published = self.learners[0].policies.remote()

    def _teach_learners(self) -> None:
        """The same, with new ones where any has died meanwhile."""
        try:
            self._teach()
        except self.ray.exceptions.RayActorError as error:
            self._replace_learners(f"a learner died: {_short(error)}")

    def _new_server(self) -> Any:
        server = self._remote(Server, max_concurrency=1000).remote(Shipped.of(self.env), self.num_envs, PATIENCE)
        self._inform(server)
        return server

    def _inform(self, server: Any) -> None:
        """Tell an inference server whose decisions it makes."""
        if self.against is not None:
            self.ray.get(server.meet.remote(*self.against), timeout=STARTING)
        self.ray.get(server.publish.remote(self.published, self.version), timeout=STARTING)

    def _new_actor(self) -> Any:
        return self._remote(Actor).remote(Shipped.of(self.env))

    def prepare_spare(self) -> None:
        """A process that could be any actor, made before it is needed, because that takes seconds."""
        if self.spare is None:
            self.spare = self._new_actor()

    def _launch(self, index: int, handle: Any) -> None:
        """Let a process take an actor's place, or the one that has it begin anew."""
        slot = self.slots[index]
        slot.handle, slot.life, slot.expected, slot.born = handle, slot.life + 1, 0, time.monotonic()
        slot.asked.clear()
        options = {
            "num_envs": self.num_envs // self.where.actors,
            "length": self.algorithm.rollout_length,
            "on_nan": self.on_nan,
            "learns": tuple(g.name for g in self.spec.groups),
            "seed": self.seed + self.version,
        }
        if isinstance(self.env, HostEnvironment):
            per = max(1, (self.where.workers or self.where.actors) // self.where.actors)
            options |= {"workers": min(per, options["num_envs"]), "timeout": self.where.env_timeout}
        server = self.servers[index % len(self.servers)] if self.servers else None
        handle.take.remote(index, slot.life, options, server)
        if self.against is not None:
            handle.meet.remote(*self.against)

    def _kill(self, handle: Any) -> None:
        with contextlib.suppress(Exception):
            self.ray.kill(handle)

    def end(self) -> None:
        """End all processes; a cluster that was started for them ends with the one that called."""
        everybody = [s.handle for s in self.slots] + self.learners + self.servers + [self.spare]
        for handle in filter(None, everybody):
            self._kill(handle)

    # Going on

    def _ask(self, index: int, progress: float) -> None:
        """Ask an actor for an unroll by the newest policies."""
        slot = self.slots[index]
        role = slot.handle.sample.options(num_returns=2)
        facts, sample = role.remote([self.published], self.version, progress)
        slot.asked.append((facts, sample, self.version, time.monotonic()))

    def gather(self, progress: float, ahead: int) -> list[Any]:
        """An unroll of every actor, in order; each is then asked for so many `ahead`."""
        for index, slot in enumerate(self.slots):
            while len(slot.asked) < 1 + ahead:
                self._ask(index, progress)
        taken: dict[int, Any] = {}
        begin = time.monotonic()  # who was not listened to while learners learned was not silent
        while len(taken) < len(self.slots):
            open_ = {self.slots[i].asked[0][0]: i for i in range(len(self.slots)) if i not in taken}
            ready, _ = self.ray.wait(list(open_), num_returns=1, timeout=1.0)
            for reference in ready:
                index = open_[reference]
                if self._arrived(index, reference, progress):
                    _, sample, version, _ = self.slots[index].asked.popleft()
                    self.lag[self.version - version] += 1
                    taken[index] = sample
            self._replace_silent(taken, progress, begin)
        return [taken[index] for index in range(len(self.slots))]

    def _arrived(self, index: int, reference: Any, progress: float) -> bool:
        """Whether an unroll is there; if not, its actor was replaced and another was asked for."""
        slot, errors = self.slots[index], self.ray.exceptions
        try:
            facts: dict[str, Any] = self.ray.get(reference)
        except errors.RayTaskError as error:  # raised in the actor; it may be a RayActorError too
            cause = error.cause if isinstance(getattr(error, "cause", None), Exception) else error
            if not isinstance(cause, errors.RayActorError):
                raise cause from None
            whose = "inference server" if self.servers else "learner"
            self._restart_servers() if self.servers else self._restart_unheard_learners()
            self._restart(index, f"actor {index} lost its {whose}", progress, anew=True)
            return False
        except errors.RayActorError as error:
            self._restart(index, f"actor {index} died: {_short(error)}", progress)
            return False
        if facts["life"] != slot.life or facts["number"] != slot.expected:
            raise RuntimeError(
                f"unroll {facts['number']} of actor {index}, life {facts['life']}, came where {slot.expected} of life "
                f"{slot.life} was expected"
            )
        slot.expected += 1
        if slot.died:
            self.recovery.append(("actor", time.monotonic() - slot.died))
            slot.died = 0.0
        slot.pid = facts["pid"]
        return True

    def _restart(self, index: int, why: str, progress: float, *, anew: bool = False) -> None:
        slot = self.slots[index]
        slot.died = time.monotonic()
        self.restarts["actor"] += 1
        self.say(f"{why}; it begins anew" if anew else f"{why}; replaced")
        if anew:
            self._launch(index, slot.handle)
        else:
            self._kill(slot.handle)
            spare, self.spare = self.spare, None
            self._launch(index, spare or self._new_actor())
        self._ask(index, progress)

    def _restart_servers(self) -> None:
        """New inference servers in the places of dead ones; their actors begin anew when they complain."""
        for k, server in enumerate(self.servers):
            try:
                self.ray.get(server.facts.remote(), timeout=5)
            except Exception:  # dead, or as good as that
                begin = time.monotonic()
                self.servers[k] = self._new_server()
                self.restarts["inference server"] += 1
                self.recovery.append(("inference server", time.monotonic() - begin))

    def _restart_unheard_learners(self) -> None:
        """New learners, if those that there are died before anybody had their policies."""
        try:
            self.ray.get(self.published, timeout=STARTING)
        except self.ray.exceptions.RayActorError:
            self._replace_learners("a learner died before it gave its policies")

    def _replace_learners(self, why: str) -> None:
        self.restarts["learner"] += 1
        self.say(f"{why}; all go on from the last checkpoint")
        for old in self.learners:
            self._kill(old)
        self.learners = self._new_learners()
        self._join_learners()

    def _replace_silent(self, taken: dict[int, Any], progress: float, begin: float) -> None:
        """Replace actors that say nothing for too long after they were asked, and after somebody began to listen."""
        limit = self.where.env_timeout
        for index, slot in enumerate(self.slots):
            if index in taken or (slot.expected == 0 and time.monotonic() - slot.born < STARTING):
                continue
            if time.monotonic() - max(begin, slot.asked[0][3]) > limit * (1 + len(slot.asked)):
                self._restart(index, f"actor {index} was silent for {limit:.0f} s", progress)

    def learn(self, samples: list[Any], data: np.ndarray, settings: dict[str, Any]) -> dict[str, Any] | None:
        """One update; learners that die begin anew from what was last fetched, and learn from the same unrolls.

        None where those were lost with the machine that held them.
        """
        errors, share = self.ray.exceptions, len(samples) // self.where.learners
        died = 0.0
        while True:
            try:
                asked = [
                    x.update.options(num_returns=2).remote(samples[k * share : (k + 1) * share], data, settings)
                    for k, x in enumerate(self.learners)
                ]
                facts = self.ray.get([a[0] for a in asked], timeout=self.where.env_timeout + STARTING)
                break
            except (errors.RayActorError, errors.GetTimeoutError) as error:
                died = died or time.monotonic()
                self._replace_learners(f"a learner died: {_short(error)}")
            except errors.RayTaskError as error:
                if isinstance(error.cause, errors.ObjectLostError):
                    return None
                if self.where.learners == 1 or "gloo" not in str(error).lower():
                    raise error.cause if isinstance(error.cause, Exception) else error from None
                died = died or time.monotonic()
                self._replace_learners("a learner lost the others")
        if died:
            self.recovery.append(("learner", time.monotonic() - died))
        self.published = asked[0][1]
        self.version += 1
        self.consumed += len(samples)
        for server in self.servers:
            server.publish.remote(self.published, self.version)
        total: dict[str, Any] = facts[0]
        for other in facts[1:]:
            total["episodes"] = jax.tree.map(np.add, total["episodes"], other["episodes"])
            total["faults"] |= other["faults"]
        self.faults = total["faults"]
        return total

    def fetch(self) -> Learner:
        """The learner, brought here. One that dies later begins again from this."""
        while True:
            try:
                parts = self.ray.get([x.fetch.remote() for x in self.learners], timeout=STARTING)
                break
            except self.ray.exceptions.RayActorError as error:
                self._replace_learners(f"a learner died: {_short(error)}")
        per_env = jax.tree.map(lambda *xs: np.concatenate(xs), *(p.per_env for p in parts))
        self.saved = Learner(parts[0].shared, per_env)
        return self.saved

    @property
    def pids(self) -> dict[str, list[int]]:
        """Of the processes, by role, as far as they are known."""
        servers = [self.ray.get(s.facts.remote())["pid"] for s in self.servers]
        return {"actor": [s.pid for s in self.slots], "learner": self.learner_pids, "inference server": servers}

    @property
    def status(self) -> dict[str, Any]:
        """What the cluster's status says of all of them."""
        return {
            "roles": {"actors": len(self.slots), "learners": len(self.learners), "servers": len(self.servers)},
            "queue_depths": [len(s.asked) for s in self.slots],
            "updates": self.version,
            "policy_lag": {str(k): n for k, n in sorted(self.lag.items())},
            "restarts": dict(self.restarts),
            "environment_faults": {str(k): f for k, f in self.faults.items() if f},
        }


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
