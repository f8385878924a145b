"""Samplers: what actors do. They play environments of their own with the policies that they are given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ludus.core.host import HostEnvironment
from ludus.core.rollout import Rollout
from ludus.runtime.finite import first_bad
from ludus.runtime.host.collect import Collector
from ludus.runtime.host.pool import Pool
from ludus.runtime.host.program import episodes_of, origin
from ludus.runtime.inference import Inference
from ludus.runtime.rollout import Actors, Episodes, Policies, collect, init_actors
from ludus.runtime.setup import compiler_options


@dataclass
class Sample:
    """An unroll of all environments of one sampler, and where it comes from."""

    rollout: Rollout
    episodes: Episodes
    bad: dict[str, Any]
    version: int  # of the policies that acted
    sampler: int  # which one played
    life: int  # how often that one was begun anew
    number: int  # of its unrolls in this life, from 0
    faults: dict[str, int] = field(default_factory=dict)  # of environments, so far in this life


class DeviceSampler:
    """Environments of the device, in one program."""

    def __init__(self, env: Any, num_envs: int, length: int, seed: int, on_nan: str):
        self.env, self.num_envs, self.length, self.on_nan = env, num_envs, length, on_nan
        self._key = jax.random.key(seed)
        self._actors: Actors | None = None
        self._compiled: dict[Any, Any] = {}

    def sample(self, policies: Policies, progress: float) -> tuple[Rollout, Episodes, dict[str, Array], dict[str, int]]:
        """One unroll."""
        if self._actors is None:
            keys = jax.random.split(self._key, self.num_envs)
            begin = jax.jit(lambda p, k: init_actors(self.env, p, k), compiler_options=compiler_options(once=True))
            self._actors = begin(policies, keys)
        leaves, structure = jax.tree.flatten(policies)
        if structure not in self._compiled:
            self._compiled[structure] = jax.jit(
                lambda leaves, actors, progress: self._play(jax.tree.unflatten(structure, leaves), actors, progress),
                donate_argnums=1,
                compiler_options=compiler_options(),
            )
        found = self._compiled[structure](leaves, self._actors, progress)
        self._actors, rollout, episodes, bad = found
        return rollout, episodes, bad, {}

    def _play(self, policies: Policies, actors: Actors, progress: Array) -> tuple[Any, ...]:
        skip = self.on_nan == "skip"
        actors, rollout, episodes = collect(self.env, policies, actors, self.length, progress=progress, skip=skip)
        return actors, rollout, episodes, {} if skip else first_bad(rollout, self.num_envs)

    def close(self) -> None:
        """Nothing is held."""


class HostSampler:
    """Environments in processes of this machine; decisions here, or by a server if there is one."""

    def __init__(
        self,
        env: HostEnvironment,
        num_envs: int,
        length: int,
        seed: int,
        on_nan: str,
        *,
        workers: int,
        timeout: float,
        learns: tuple[str, ...],
        inference: Any = None,
    ):
        self.pool = Pool(*origin(env), env.spec, num_envs, workers, seed=seed, timeout=timeout)
        self.inference = inference or Inference(env.spec, num_envs)
        self._remote = inference is not None
        self._keys = jax.random.split(jax.random.key(seed), num_envs)
        self._collector: Collector | None = None
        self._length, self._stop, self._learns = length, on_nan == "stop", learns

    def sample(self, policies: Policies, progress: float) -> tuple[Rollout, Episodes, dict[str, Array], dict[str, int]]:
        """One unroll."""
        if not self._remote:
            self.inference.publish(policies, 0)
        if self._collector is None:
            self.inference.begin(self._keys)
            self._collector = Collector(
                self.pool, self.inference, self._length, stop_on_nan=self._stop, learns=self._learns
            )
        rollout, ended, _ = self._collector.collect(progress)
        matches = getattr(policies, "matches", None)
        return rollout, episodes_of(self.pool.spec, ended, matches), {}, self.pool.faults.told

    def close(self) -> None:
        """End the processes."""
        self.pool.close()


def sampler_for(
    env: Any, num_envs: int, length: int, seed: int, on_nan: str, *, learns: tuple[str, ...], **host: Any
) -> DeviceSampler | HostSampler:
    """What plays this game. `host` are the options of `HostSampler`."""
    if not isinstance(env, HostEnvironment):
        return DeviceSampler(env, num_envs, length, seed, on_nan)
    return HostSampler(env, num_envs, length, seed, on_nan, learns=learns, **host)


def on_host(tree: Any) -> Any:
    """Arrays as NumPy's, so that they travel."""
    return jax.tree.map(np.asarray, tree)


def add_episodes(parts: list[Episodes]) -> Episodes:
    """Sums over several samplers."""
    total: Episodes = jax.tree.map(lambda *xs: jnp.asarray(sum(np.asarray(x) for x in xs)), *parts)
    return total
