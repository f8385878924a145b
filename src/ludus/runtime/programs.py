"""Which runtime a game and a wish call for: on the device, in processes of the host, or on a Ray cluster.

All of them have one face: `Program`, `Evaluator` and `Tournament` of `runtime.device`, `.evaluate`, `.tournament`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax

from ludus.core.errors import UsageError
from ludus.core.host import HostEnvironment
from ludus.runtime.asynchronous import AsyncProgram
from ludus.runtime.device import Program
from ludus.runtime.evaluate import Evaluator
from ludus.runtime.host.evaluate import HostEvaluator
from ludus.runtime.host.program import HostProgram, cores, origin
from ludus.runtime.host.tournament import HostTournament
from ludus.runtime.tournament import Tournament


@dataclass(frozen=True)
class Placement:
    """Where training runs. Fields are flags of the command line, with these texts as help."""

    runtime: Literal["local", "ray"] = "local"
    """In this process (environments that need one have processes of their own), or on a Ray cluster."""
    workers: int = 0
    """Processes of environments that are stepped on the host, or a3c's workers; 0: one for each core."""
    env_timeout: float = 60.0
    """Seconds after which a process of environments that does not answer is replaced."""
    address: str = ""
    """Of a running Ray cluster (RAY_ADDRESS otherwise); empty: start one on this machine, for this run."""
    actors: int = 2
    """Ray: processes that sample."""
    envs_per_actor: int = 0
    """Ray: environments of each actor; 0: num_envs shared out evenly."""
    inference_servers: int = 0
    """Ray: servers that decide for all actors; 0: every actor decides for itself."""
    learners: int = 1
    """Ray: processes that learn together, each from its share of the environments."""
    evaluators: int = 0
    """Ray: processes that evaluate beside training, and play a league's matches; 0: who trains does."""


def placed(settings: Any) -> Placement:
    """The placement that settings say."""
    return Placement(**{name: getattr(settings, name) for name in Placement.__dataclass_fields__})


def default_devices(algorithm: Any, env: Any, num_envs: int, seeds: int) -> int:
    """How many devices to use where nobody says: as many as divide the work evenly.

    On host cores, spreading pays from a few environments a core on; a single device keeps at most one and a half
    cores busy with small networks (see docs/benchmarks.md).
    """
    fits = [d for d in range(1, len(jax.devices()) + 1) if seeds % d == 0 or (num_envs % d == 0 and num_envs // d >= 4)]
    for devices in reversed(fits):
        if seeds % devices and not getattr(algorithm, "splits", True):
            continue
        own = num_envs if seeds % devices == 0 else num_envs // devices
        if algorithm.check(env.spec, own) is None:
            return devices
    return 1


def program_for(
    algorithm: Any,
    env: Any,
    num_envs: int,
    steps: int,
    seeds: int = 1,
    devices: int = 0,
    on_nan: Literal["stop", "skip"] = "stop",
    *,
    learns: tuple[str, ...] = (),
    placement: Placement | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> Any:
    """What trains this algorithm in this game. Raises `UsageError` where they do not fit."""
    where = placement or Placement()
    if hasattr(algorithm, "gradients") and not learns:
        if where.runtime != "local":
            raise UsageError("a3c's workers are threads of one process; on a cluster impala fits")
        count = next(w for w in range(min(where.workers or cores(), num_envs), 0, -1) if num_envs % w == 0)
        workers = where.workers or count
        return AsyncProgram(algorithm, env, num_envs, steps, workers, on_nan, seed, where.env_timeout, seeds)
    if where.runtime == "ray":
        from ludus.runtime.ray.program import ray_program

        return ray_program(algorithm, env, num_envs, steps, seeds, on_nan, learns, where, seed, say)
    devices = devices or default_devices(algorithm, env, num_envs, seeds)
    if not isinstance(env, HostEnvironment):
        return Program(algorithm, env, num_envs, steps, seeds, devices, on_nan, learns)
    return HostProgram(
        algorithm,
        env,
        num_envs,
        steps,
        workers=where.workers,
        devices=devices,
        on_nan=on_nan,
        learns=learns,
        timeout=where.env_timeout,
        seed=seed,
        say=say,
        seeds=seeds,
    )


def evaluator_for(env: Any, workers: int = 0, placement: Placement | None = None) -> Any:
    """What evaluates policies in this game."""
    if placement is not None and placement.runtime == "ray" and placement.evaluators:
        from ludus.runtime.ray.evaluate import Evaluators

        return Evaluators(env, placement)
    if isinstance(env, HostEnvironment):
        return HostEvaluator(*origin(env), env.spec, workers or cores())
    return Evaluator(env)


def tournament_for(env: Any, workers: int = 0, placement: Placement | None = None) -> Any:
    """What plays many policies of this game against each other."""
    if placement is not None and placement.runtime == "ray" and placement.evaluators:
        from ludus.runtime.ray.evaluate import Evaluators

        return Evaluators(env, placement).tournament
    if isinstance(env, HostEnvironment):
        return HostTournament(HostEvaluator(*origin(env), env.spec, workers or cores()))
    return Tournament(env)
