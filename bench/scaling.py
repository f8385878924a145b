"""A discrete-event simulation of the Ray runtime, from costs that are measured here to clusters that are not.

    python bench/scaling.py measure              # the costs, and the throughput of real runs, on this machine
    python bench/scaling.py check  COSTS.json    # the simulation of the same runs beside them
    python bench/scaling.py predict COSTS.json   # 10 to 10,000 actors, 1 to 64 learners

The model is the loop of `ludus.runtime.ray.program`: actors are asked for at most three unrolls each and sample them
on their cores; the driver takes one unroll of each in turn; learners fetch their share over their own network links,
update, add up gradients in a ring, and publish parameters, which every actor pulls before its next unroll.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import simpy

GAME, ROLLOUT, ENVS = "mpe/simple_spread", 32, 16  # environments of one actor
AHEAD = 3  # unrolls that an actor is asked for at most


@dataclass(frozen=True)
class Costs:
    """Seconds and bytes, measured on one core unless said otherwise."""

    sample: float  # of one unroll of one actor
    update_fixed: float  # of an update, whatever its size
    update_unroll: float  # of an update, for each unroll in it
    driver: float  # of the driver, for each unroll
    ship: float  # of an actor and a learner, for each unroll: serialising, and fetching from shared memory
    round: float  # of an update: handing it over and hearing of it, fitted to the run of one actor
    unroll_bytes: float
    parameter_bytes: float
    bandwidth: float = 1.25e9  # bytes a second of one machine's link: 10 Gbit/s
    latency: float = 1e-4  # seconds of one message


@dataclass
class Outcome:
    """What a simulated run did."""

    steps_per_second: float
    queue: float  # unrolls that wait, a actor
    lag: float  # updates between the policies of an unroll and those that learn from it
    busy: dict[str, float]  # share of time

    @property
    def bottleneck(self) -> str:
        """What is busiest."""
        return max(self.busy, key=lambda k: self.busy[k])


def simulate(
    costs: Costs, actors: int, learners: int, *, cores: int = 0, waits: bool = False, updates: int = 40
) -> Outcome:
    """Play a run. With `cores` everything shares so many; else every process has its own."""
    world = simpy.Environment()
    shared = simpy.Resource(world, capacity=cores) if cores else None
    ahead = 1 if waits else AHEAD
    version, spent = 0, Counter()
    ready = [simpy.Store(world) for _ in range(actors)]
    asked = [simpy.Store(world) for _ in range(actors)]
    for store in asked:
        for _ in range(ahead):
            store.put(0)
    lags: list[int] = []
    waiting: list[float] = []
    share = math.ceil(actors / learners)

    def work(who: str, seconds: float, weight: float = 1.0):
        """Be busy; on a shared machine, on one of its cores."""
        if shared is None:
            yield world.timeout(seconds)
        else:
            with shared.request() as core:
                yield core
                yield world.timeout(seconds)
        spent[who] += seconds * weight

    def actor(k: int):
        held = -1
        while True:
            wanted = yield asked[k].get()
            if wanted != held and cores == 0:  # parameters are pulled from a learner's link by all of its actors
                seconds = costs.latency + costs.parameter_bytes * share / costs.bandwidth
                yield world.timeout(seconds)
            held = wanted
            yield from work("actors", costs.sample + costs.ship, 1 / actors)
            yield ready[k].put(wanted)

    def driver():
        nonlocal version
        while version < updates:
            taken = []
            for k in range(actors):
                taken.append((yield ready[k].get()))
                if not waits:
                    asked[k].put(version)
            yield from work("driver", costs.driver * actors)
            waiting.append(sum(len(s.items) for s in ready) / actors)
            if cores == 0:
                seconds = costs.latency + share * costs.unroll_bytes / costs.bandwidth
                spent["links of learners"] += seconds
                yield world.timeout(seconds)
            parts = [world.process(work("learners", update, 1 / learners)) for _ in range(learners)]
            yield world.all_of(parts)
            spent["messages"] += costs.round
            yield world.timeout(costs.round)
            if learners > 1:
                ring = 2 * (learners - 1) * costs.latency
                ring += 2 * (learners - 1) / learners * costs.parameter_bytes / costs.bandwidth
                spent["gradients between learners"] += ring
                yield world.timeout(ring)
            lags.extend(version - v for v in taken)
            version += 1
            if waits:
                for store in asked:
                    store.put(version)

    update = costs.update_fixed + costs.update_unroll * share + costs.ship * share
    for k in range(actors):
        world.process(actor(k))
    world.run(until=world.process(driver()))
    steps = actors * ENVS * ROLLOUT * updates / world.now
    busy = {who: seconds / world.now for who, seconds in spent.items()}
    return Outcome(steps, sum(waiting) / len(waiting), sum(lags) / len(lags), busy)


REMEDIES = {
    "actors": "more actors: learners wait for experience",
    "driver": "fewer, larger unrolls (more environments an actor), or a driver for each group of actors",
    "learners": "more learners, fewer epochs, or an accelerator: actors wait for updates",
    "links of learners": "more learners, each with a link of its own, or smaller observations",
    "messages": "larger updates: more environments, or longer unrolls",
    "gradients between learners": "fewer learners with larger shares",
}


def program(actors: int) -> Any:
    from ludus import IMPALA, Network
    from ludus.envs.registry import make
    from ludus.runtime.programs import Placement, program_for

    algorithm = IMPALA(rollout_length=ROLLOUT, network=Network(hidden=(64, 64)))
    place = Placement(runtime="ray", actors=actors)
    return program_for(algorithm, make(GAME), actors * ENVS, 10**8, placement=place)


def run(actors: int, seconds: float) -> tuple[float, dict[str, float]]:
    """Steps a second of a real run, and what its parts took."""
    from ludus.runtime.ray.crew import AHEAD

    made = program(actors)
    state = made.init(0)
    call = made.compile(state)
    state, _ = call(state)
    crew, facts = made.crew, {"sample": [], "update": [], "loop": []}

    begin, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - begin) < seconds:
        for _ in range(made.iterations_per_call):
            start = time.perf_counter()
            samples = crew.gather(0.0, AHEAD)
            middle = time.perf_counter()
            found = crew.learn(samples, made_key(), {})
            facts["update"].append(found["seconds"])
            facts["loop"].append(time.perf_counter() - start)
            facts["sample"].append(middle - start)
            count += made.steps_per_iteration
    made.close()
    middle = lambda xs: sorted(xs)[len(xs) // 2]
    return count / spent, {k: middle(v) for k, v in facts.items()}


def made_key() -> Any:
    import jax
    import numpy as np

    return np.asarray(jax.random.key_data(jax.random.key(1)))


def measure(out: Path, seconds: float) -> None:
    """One actor gives the costs, several the runs to check against."""
    import jax
    import numpy as np

    from ludus import IMPALA, Network
    from ludus.envs.registry import make
    from ludus.runtime.sampler import DeviceSampler, on_host
    from ludus.runtime.setup import configure
    from ludus.runtime.update import Update, join_rollouts

    configure(host_devices=1)
    env = make(GAME)
    algorithm = IMPALA(rollout_length=ROLLOUT, network=Network(hidden=(64, 64)))
    learner = algorithm.init(env.spec, ENVS, key=jax.random.key(0))
    sampler = DeviceSampler(env, ENVS, ROLLOUT, 0, "stop")
    policies = algorithm.policy(learner)

    def timed(work: Any, times: int = 30) -> float:
        work(), work()
        begin = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - begin) / times

    sample = timed(lambda: on_host(sampler.sample(policies, 0.0)[0]))
    rollout = on_host(sampler.sample(policies, 0.0)[0])
    size = sum(x.nbytes for x in jax.tree.leaves(rollout))
    updates = {}
    for copies in (1, 4):
        many = join_rollouts([rollout] * copies)
        whole = algorithm.init(env.spec, ENVS * copies, key=jax.random.key(0))
        update = Update(algorithm, ENVS * copies, jax.devices()[:1])
        held = [update.place(whole)]

        def once(update: Any = update, many: Any = many, held: Any = held) -> None:
            held[0] = update(held[0], many, jax.random.key(0))[0]
            jax.block_until_ready(held[0])

        updates[copies] = timed(once)
    each = (updates[4] - updates[1]) / 3
    from ludus.runtime.programs import Placement
    from ludus.runtime.ray.cluster import connect

    ray = connect(Placement(runtime="ray", actors=4))
    reference = ray.put(rollout)
    ship = timed(lambda: ray.get(ray.put(rollout)))
    driver = timed(lambda: ray.wait([reference], timeout=1.0)) + 1e-3  # and a call and its small answer
    parameters = sum(np.asarray(x).nbytes for x in jax.tree.leaves(learner.shared["groups"]))
    costs = Costs(sample, max(updates[1] - each, 0.0), each, driver, ship, 0.0, size, parameters / 3)
    real = {str(n): run(n, seconds)[0] for n in (1, 2, 4)}
    free = simulate(costs, 1, 1, cores=os.cpu_count() or 1, updates=200).steps_per_second
    costs = replace(costs, round=max(0.0, ENVS * ROLLOUT * (1 / real["1"] - 1 / free)))
    out.write_text(json.dumps({"costs": asdict(costs), "real": real, "cores": os.cpu_count()}, indent=2))
    print(out.read_text())


def check(path: Path) -> None:
    """The simulation beside the runs that were measured."""
    found = json.loads(path.read_text())
    costs = Costs(**found["costs"])
    print("| actors | measured, steps/s | simulated, steps/s | ratio |\n|---|---|---|---|")
    for actors, steps in found["real"].items():
        said = simulate(costs, int(actors), 1, cores=found["cores"], updates=200).steps_per_second
        print(f"| {actors} | {steps:,.0f} | {said:,.0f} | {said / steps:.2f} |")


def predict(path: Path) -> None:
    """Past this machine."""
    costs = Costs(**json.loads(path.read_text())["costs"])
    print("| actors | learners | steps/s | queue | lag | bottleneck | remedy |\n|---|---|---|---|---|---|---|")
    for actors in (10, 100, 1000, 10000):
        for learners in (1, 8, 64):
            if learners > actors:
                continue
            said = simulate(costs, actors, learners)
            where = f"{said.bottleneck} ({said.busy[said.bottleneck]:.0%} busy)"
            numbers = f"{said.steps_per_second:,.0f} | {said.queue:.2f} | {said.lag:.2f}"
            print(f"| {actors:,} | {learners} | {numbers} | {where} | {REMEDIES[said.bottleneck]} |")
    slow = replace(costs, sample=costs.sample * 50)
    said = simulate(slow, 1000, 8)
    print(
        f"\nWith games fifty times as slow, 1,000 actors and 8 learners: {said.steps_per_second:,.0f} steps/s, "
        f"bottleneck {said.bottleneck}."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["measure", "check", "predict"])
    parser.add_argument("costs", type=Path, nargs="?", default=Path("costs.json"))
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    if given.what == "measure":
        measure(given.costs, given.seconds)
    else:
        {"check": check, "predict": predict}[given.what](given.costs)
