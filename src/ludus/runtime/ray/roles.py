"""What each process of a cluster does. None of these classes knows Ray; `program` makes actors of them."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ludus.core.algorithm import Learner
from ludus.core.parcels import travel_lightly
from ludus.core.spec import GameSpec
from ludus.runtime.cast import Cast, Matches
from ludus.runtime.inference import Decided, Inference
from ludus.runtime.sampler import Sample, add_episodes, on_host, sampler_for
from ludus.runtime.setup import configure
from ludus.runtime.update import Update, join_rollouts

travel_lightly()  # at either end of every message: whoever sends imports this module, and so do the roles' processes


@dataclass(frozen=True)
class Shipped:
    """A game as it travels: by name where it has one that any process knows, else as it is."""

    env: Any
    origin: tuple[str, dict[str, Any]] | None

    @staticmethod
    def of(env: Any) -> Shipped:
        """A game to be sent."""
        origin = getattr(env, "origin", None)
        return Shipped(None if origin else env, origin)

    def unpack(self) -> Any:
        """The game."""
        if self.origin is None:
            return self.env
        from ludus.envs.registry import make

        return make(self.origin[0], **self.origin[1])


def quiet_process() -> None:
    """One device of the host, and nobody's accelerator."""
    jax.config.update("jax_platforms", "cpu")
    configure(host_devices=1)


class Actor:
    """Plays environments of its own; decides by itself, or asks an inference server. Idle until it takes a place."""

    def __init__(self, shipped: Shipped):
        quiet_process()
        self._env = shipped.unpack()
        self.spec: GameSpec = self._env.spec
        self._sampler: Any = None

    def take(self, index: int, life: int, options: dict[str, Any], server: Any = None) -> None:
        """Be the actor of this place from now on, in the how-manieth life of it."""
        if self._sampler is not None:
            self._sampler.close()
        self.index, self.life, self.number, self.version = index, life, 0, -1
        self._frozen: Any = None
        self._matches: Matches | None = None
        self._policies: Any = None
        if server is not None:
            options = {**options, "inference": RemoteInference(server, f"{index}.{life}", self.spec)}
        seed = np.random.SeedSequence([options["seed"], index, life]).generate_state(1)[0]
        self._sampler = sampler_for(self._env, **{**options, "seed": int(seed & 0x7FFFFFFF)})

    def meet(self, frozen: Any, matches: Any) -> None:
        """Play against these frozen policies from now on."""
        self._frozen, self._matches, self.version = frozen, jax.tree.map(jnp.asarray, matches), -1

    def sample(self, published: list[Any], version: int, progress: float) -> tuple[dict[str, Any], Any]:
        """One unroll: what is known of it, and itself. `published` holds a reference to policies of `version`."""
        if version != self.version:
            own = _fetch(published[0])
            cast = own if self._matches is None else Cast(own, self._frozen, self._matches, self.spec)
            self._policies, self.version = jax.tree.map(jnp.asarray, cast), version
        begin = time.monotonic()
        rollout, episodes, bad, faults = self._sampler.sample(self._policies, progress)
        rollout = on_host(rollout)
        number, self.number = self.number, self.number + 1
        facts = {
            "sampler": self.index,
            "life": self.life,
            "number": number,
            "version": version,
            "seconds": time.monotonic() - begin,
            "pid": os.getpid(),
        }
        return facts, Sample(rollout, on_host(episodes), on_host(bad), version, self.index, self.life, number, faults)

    def pid(self) -> int:
        """Of this process."""
        return os.getpid()


def _fetch(reference: Any) -> Any:
    import ray

    return ray.get(reference)


class RemoteInference:
    """An inference server's decisions, with the face of `Inference`."""

    def __init__(self, server: Any, client: str, spec: GameSpec):
        self.server, self.client, self.spec = server, client, spec

    def begin(self, keys: Any) -> None:
        """Register this client's environments, forgetting what they were before."""
        _fetch(self.server.register.remote(self.client, np.asarray(jax.random.key_data(keys))))

    def decide(self, rows: np.ndarray, begins: np.ndarray, moment: dict[str, Any]) -> Decided:
        """See `Inference.decide`."""
        found: Decided = _fetch(self.server.decide.remote(self.client, rows, begins, moment))
        return found


class Server:
    """Decides for all actors at once: a batch closes when all clients are in, or the first has waited long enough."""

    def __init__(self, shipped: Shipped, capacity: int, patience: float):
        quiet_process()
        spec = shipped.unpack().spec
        self.spec, self.patience = spec, patience
        self._inference = Inference(spec, capacity)
        self._first: dict[str, int] = {}  # the first row of each client
        self._rows: dict[str, int] = {}
        self._waiting: list[tuple[str, np.ndarray, np.ndarray, Any, asyncio.Future]] = []
        self._closing: asyncio.Task | None = None
        self._matches: Any = None
        self._frozen: Any = None
        self._free = 0
        self.batches: list[int] = []

    async def meet(self, frozen: Any, matches: Any) -> None:
        """Decide for casts with these frozen policies from now on."""
        self._frozen, self._matches = frozen, jax.tree.map(jnp.asarray, matches)

    async def publish(self, policies: Any, version: int) -> int:
        """Decide with these from now on."""
        own = jax.tree.map(jnp.asarray, policies)
        cast = own if self._matches is None else Cast(own, self._frozen, self._matches, self.spec)
        first = self._inference.version < 0
        self._inference.publish(cast, version)
        if first:
            self._inference.begin(jax.random.split(jax.random.key(0), self._inference.rows))
        return os.getpid()

    async def register(self, client: str, keys: np.ndarray) -> None:
        """Give a client rows of its own; those of its earlier lives are free again."""
        mine = client.partition(".")[0]
        old = next((c for c in self._first if c.partition(".")[0] == mine), None)
        first = self._first.pop(old) if old is not None else self._free
        if old is None:
            self._free += len(keys)
        else:
            self._rows.pop(old)
        self._first[client], self._rows[client] = first, len(keys)
        self._inference.rekey(first, jax.random.wrap_key_data(jnp.asarray(keys)))

    async def decide(self, client: str, rows: np.ndarray, begins: np.ndarray, moment: Any) -> Decided:
        """Join the next batch."""
        future: asyncio.Future = asyncio.get_running_loop().create_future()
        self._waiting.append((client, rows + self._first[client], begins, moment, future))
        # A client waits for one half of its environments at a time, so that many rows are all there can be.
        if sum(len(w[1]) for w in self._waiting) * 2 >= sum(self._rows.values()):
            self._close()
        elif self._closing is None:
            self._closing = asyncio.create_task(self._close_later())
        found: Decided = await future
        return found

    async def _close_later(self) -> None:
        await asyncio.sleep(self.patience)
        self._closing = None
        self._close()

    def _close(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if not waiting:
            return
        join = lambda k: np.concatenate([w[k] for w in waiting])
        moment = jax.tree.map(lambda *xs: np.concatenate(xs), *(w[3] for w in waiting))
        decided = self._inference.decide(join(1), join(2), moment)
        self.batches = [*self.batches[-999:], len(decided.log_prob[next(iter(decided.log_prob))])]
        begin = 0
        for _, rows, _, _, future in waiting:
            part = slice(begin, begin + len(rows))
            begin += len(rows)
            cut = lambda tree, part=part: jax.tree.map(lambda x: np.asarray(x)[part], tree)
            answer = Decided(
                cut(decided.action),
                cut(decided.log_prob),
                cut(decided.extras),
                cut(decided.before),
                cut(decided.mine),
                cut(decided.pairing),
                decided.version,
            )
            if not future.done():
                future.set_result(answer)

    async def facts(self) -> dict[str, Any]:
        """For the status."""
        return {"pid": os.getpid(), "batches": len(self.batches), "mean_batch": float(np.mean(self.batches or [0]))}


class LearnerRole:
    """Learns from unrolls, alone or with others of its kind, each from its share of the environments."""

    def __init__(self, algorithm: Any, num_envs: int, on_nan: Any, rank: int, world: int, devices: int = 1):
        jax.config.update("jax_platforms", "cpu")
        if world > 1:
            jax.config.update("jax_cpu_collectives_implementation", "gloo")
        self.algorithm, self.num_envs, self.on_nan = algorithm, num_envs, on_nan
        self.rank, self.world, self.devices = rank, world, devices
        self.learner: Any = None

    def address(self) -> str:
        """Where the others find the first of them."""
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return f"127.0.0.1:{probe.getsockname()[1]}"

    def join(self, coordinator: str) -> None:
        """Meet the others, before anything else of JAX happens here."""
        configure(host_devices=self.devices)
        if self.world > 1:
            jax.distributed.initialize(coordinator, self.world, self.rank, cluster_detection_method="deactivate")

    def begin(self, learner: Any) -> int:
        """Take over a learner, or this process's share of it."""
        if self.learner is None:
            self._update = Update(self.algorithm, self.num_envs, jax.devices(), on_nan=self.on_nan)
        share = self.num_envs // self.world
        mine = slice(self.rank * share, (self.rank + 1) * share)
        local = Learner(learner.shared, jax.tree.map(lambda x: x[mine], learner.per_env))
        self.learner = self._update.place(local)
        return os.getpid()

    def update(self, samples: list[Any], data: np.ndarray, settings: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """One update from references to samples; what came of it, and the new policies."""
        found: list[Sample] = [_fetch(s) for s in samples]
        begin = time.monotonic()
        rollout = join_rollouts([s.rollout for s in found])
        key = jax.random.wrap_key_data(jnp.asarray(data))
        self.learner, metrics, bad = self._update(self.learner, rollout, key, settings)
        facts = {
            "metrics": {name: float(_here(x)) for name, x in metrics.items()},
            "bad": {name: int(_here(x)) for name, x in bad.items()},
            "episodes": on_host(add_episodes([s.episodes for s in found])),
            "seconds": time.monotonic() - begin,
            "faults": {s.sampler: s.faults for s in found},
            "pid": os.getpid(),
        }
        return facts, self.policies()

    def policies(self) -> Any:
        """What acts."""
        shared = jax.tree.map(_here, self.learner.shared)
        return on_host(self.algorithm.policy(Learner(shared, ())))

    def fetch(self) -> Any:
        """The learner: what all share, and this process's part of what belongs to environments."""
        return on_host(Learner(jax.tree.map(_here, self.learner.shared), jax.tree.map(_local, self.learner.per_env)))


def _here(x: Any) -> Any:
    return x.addressable_data(0) if isinstance(x, jax.Array) and not x.is_fully_addressable else x


def _local(x: Any) -> Any:
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return np.concatenate([np.asarray(s.data) for s in x.addressable_shards])
    return x


class EvaluatorRole:
    """Evaluates policies, and plays matches."""

    def __init__(self, shipped: Shipped, workers: int):
        quiet_process()
        from ludus.runtime.programs import evaluator_for, tournament_for

        env = shipped.unpack()
        self._evaluator, self._tournament = evaluator_for(env, workers), tournament_for(env, workers)

    def pid(self) -> int:
        """Of this process."""
        return os.getpid()

    def evaluate(self, policies: Any, episodes: int, data: np.ndarray, explore: bool) -> Any:
        """See `runtime.evaluate.Evaluator`."""
        key = jax.random.wrap_key_data(jnp.asarray(data))
        return self._evaluator(jax.tree.map(jnp.asarray, policies), episodes, key, explore=explore)

    def play(self, stacks: Any, profiles: np.ndarray, games: int, data: np.ndarray) -> Any:
        """See `runtime.tournament.Tournament`."""
        key = jax.random.wrap_key_data(jnp.asarray(data))
        return on_host(self._tournament(jax.tree.map(jnp.asarray, stacks), profiles, games, key))
