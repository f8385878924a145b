"""How fast games run that are stepped on the host, and what a cluster costs.

    python bench/host.py stepping   # training in mpe2/simple_spread_v3 against the same processes with random actions
    python bench/host.py server     # decisions in one batch against one request at a time
    python bench/host.py cluster    # a device game on Ray, actors deciding for themselves, against one process
    python bench/host.py rllib --python PATH   # PPO in mpe2/simple_spread_v3 beside RLlib's, run by another Python

Steps are environment steps. Every number is the median of `--pairs` pairs, both halves of a pair one after the other.
Compilation is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from importlib import metadata
from pathlib import Path

import jax
import numpy as np

from ludus import PPO, Network
from ludus.core.spaces import Discrete
from ludus.envs.registry import make
from ludus.runtime.host.pool import Pool
from ludus.runtime.inference import Inference
from ludus.runtime.programs import Placement, program_for
from ludus.runtime.setup import configure

GAME = "mpe2/simple_spread_v3"


def random_steps(spec, envs: int, workers: int, seconds: float) -> float:
    """Steps a second with random actions."""
    pool = Pool(GAME, {}, spec, envs, workers, seed=0)
    random, count = np.random.default_rng(0), 0
    pool.begin()
    begin = time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        for client in pool.arrivals():
            for g in spec.groups:
                assert isinstance(g.action, Discrete)
                board = pool.board.action[g.name]
                board[client.rows] = random.integers(g.action.n, size=board[client.rows].shape)
            pool.ask(client)
            count += len(client.rows)
    pool.close()
    return count / spent


def stepping(arguments: argparse.Namespace) -> None:
    env = make(GAME)
    network = Network(hidden=(64, 64))
    algorithm = PPO(rollout_length=128, epochs=4, minibatches=4, network=network)
    place = Placement(workers=arguments.workers)
    program = program_for(algorithm, env, arguments.envs, 10**8, devices=arguments.devices, placement=place)
    state = program.init(0)
    call = program.compile(state)
    state, _ = call(state)
    shares = []
    for _ in range(arguments.pairs):
        alone = random_steps(env.spec, arguments.envs, arguments.workers, arguments.seconds)
        begin, count = time.perf_counter(), 0
        while (spent := time.perf_counter() - begin) < arguments.seconds:
            state, report = call(state)
            jax.block_until_ready(report)
            count += program.steps_per_call
        trained = count / spent
        shares.append(trained / alone)
        print(f"random {alone:,.0f} steps/s, training {trained:,.0f} steps/s: {trained / alone:.2f}", flush=True)
    program.close()
    print(f"median share of what random actions reach: {statistics.median(shares):.2f} ({arguments.envs} environments)")


def rllib(arguments: argparse.Namespace) -> None:
    """Same network, batch, epochs, minibatches, processes of environments; whole processes one after the other."""
    script = Path(__file__).parent / "peers" / "rllib_ppo.py"
    algorithm = PPO(rollout_length=128, epochs=4, minibatches=4, learning_rate=1e-3, network=Network(hidden=(64, 64)))
    place = Placement(workers=arguments.workers)
    ratios = []
    for _ in range(arguments.pairs):
        flags = ["--envs", arguments.envs, "--workers", arguments.workers, "--seconds", arguments.seconds]
        done = subprocess.run([arguments.python, script, *map(str, flags)], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"RLlib failed: {done.stderr[-2000:]}")
        theirs = json.loads(done.stdout.strip().splitlines()[-1])
        program = program_for(algorithm, make(GAME), arguments.envs, 10**8, placement=place)
        state = program.init(0)
        call = program.compile(state)
        state, _ = call(state)
        begin, count = time.perf_counter(), 0
        while (spent := time.perf_counter() - begin) < arguments.seconds:
            state, report = call(state)
            jax.block_until_ready(report)
            count += program.steps_per_call
        program.close()
        ratios.append(count / spent / theirs["steps_per_second"])
        print(f"Ludus {count / spent:,.0f} steps/s, RLlib {theirs}: {ratios[-1]:.2f}", flush=True)
    print(f"median ratio: {statistics.median(ratios):.2f} ({arguments.envs} environments)")


def server(arguments: argparse.Namespace) -> None:
    env = make(GAME)
    policies = PPO(network=Network(hidden=(64, 64))).init(env.spec, 1, key=jax.random.key(0))
    policies = PPO(network=Network(hidden=(64, 64))).policy(policies)
    step, ratios = env.reset(0), []
    rows = arguments.envs
    one = {
        k: {n: np.asarray(x)[None] for n, x in getattr(step, k).items()}
        for k in ("observation", "legal", "acting", "seat")
    }
    many = jax.tree.map(lambda x: np.repeat(x, rows, 0), one)
    inference = Inference(env.spec, rows)
    inference.publish(policies, 0)
    inference.begin(jax.random.split(jax.random.key(0), rows))
    inference.decide(np.arange(rows), np.ones(rows, bool), many)
    inference.decide(np.arange(1), np.ones(1, bool), one)
    for _ in range(arguments.pairs):
        begin = time.perf_counter()
        for _ in range(20):
            inference.decide(np.arange(rows), np.zeros(rows, bool), many)
        batched = 20 * rows / (time.perf_counter() - begin)
        begin = time.perf_counter()
        for k in range(200):
            inference.decide(np.array([k % rows]), np.zeros(1, bool), one)
        single = 200 / (time.perf_counter() - begin)
        ratios.append(batched / single)
        print(
            f"batched {batched:,.0f}, one at a time {single:,.0f} environments decided for a second: {ratios[-1]:.1f}"
        )
    print(f"median ratio: {statistics.median(ratios):.1f} ({rows} environments)")


def cluster(arguments: argparse.Namespace) -> None:
    env = make("mpe/simple_spread")
    algorithm = PPO(rollout_length=128, epochs=4, minibatches=4, network=Network(hidden=(64, 64)))
    rates: dict[str, list[float]] = {"one process": [], "ray": []}
    programs = {
        "ray": program_for(
            algorithm, env, arguments.envs, 10**8, placement=Placement(runtime="ray", actors=arguments.workers)
        ),
        "one process": program_for(algorithm, env, arguments.envs, 10**8, devices=arguments.devices),
    }
    held = {}
    for name, program in programs.items():
        state = program.init(0)
        call = program.compile(state)
        state, _ = call(state)
        held[name] = (state, call)
    for _ in range(arguments.pairs):
        for name, program in programs.items():
            state, call = held[name]
            begin, count = time.perf_counter(), 0
            while (spent := time.perf_counter() - begin) < arguments.seconds:
                state, report = call(state)
                jax.block_until_ready(report)
                count += program.steps_per_call
            held[name] = (state, call)
            rates[name].append(count / spent)
        print({k: f"{v[-1]:,.0f} steps/s" for k, v in rates.items()}, flush=True)
    share = [a / b for a, b in zip(rates["ray"], rates["one process"], strict=True)]
    print(f"median share of one process's throughput: {statistics.median(share):.2f} ({arguments.envs} environments)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["stepping", "server", "cluster", "rllib"])
    parser.add_argument("--envs", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--devices", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--python", help="an interpreter that has RLlib, PyTorch and mpe2")
    parser.add_argument("--seconds", type=float, default=8.0)
    given = parser.parse_args()
    configure()
    versions = ", ".join(f"{p} {metadata.version(p)}" for p in ("ludus", "jax", "mpe2"))
    print(f"{versions}; {os.cpu_count()} cores")
    {"stepping": stepping, "server": server, "cluster": cluster, "rllib": rllib}[given.what](given)
