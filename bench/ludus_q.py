"""Ludus's side of the value-learning benchmark: the peers' networks, batches and updates.

Prints one JSON object; compile time apart; an environment step is one step of one environment, all agents moving.
"""

from __future__ import annotations

import argparse
import json
import os
import time

from ludus.algorithms.value.dqn import DQN, IQL
from ludus.algorithms.value.pqn import PQNVDN
from ludus.algorithms.value.qmix import QMIX
from ludus.algorithms.value.vdn import VDN
from ludus.networks.torso import Network
from ludus.runtime.setup import configure

GRU = {
    "learning_rate": 5e-3,
    "anneal": True,
    "discount": 0.9,
    "rollout_length": 26,
    "batch_size": 32,
    "capacity": 5000 * 26,
    "warm_up": 10_000,
    "target_every": 200,
    "max_grad_norm": 25.0,
    "agent_ids": True,  # as the peer's wrapper appends them
    "network": Network(hidden=(64,), activation="relu", memory="gru", memory_size=64),
}
PLAIN = Network(hidden=(64, 64), activation="relu")
# name -> (algorithm, environments, game); the peers' published settings, so that both sides do the same work
VARIANTS = {
    "qmix": (QMIX(**GRU, mixer_width=32, hyper_width=128), 8, "mpe/simple_spread"),
    "vdn": (VDN(**GRU), 8, "mpe/simple_spread"),
    "iql": (IQL(**GRU), 8, "mpe/simple_spread"),
    # The peer samples 32 transitions each 16 steps: here two segments of 16.
    "vdn_ff": (
        VDN(**{**GRU, "rollout_length": 16, "batch_size": 2, "capacity": 100_000, "double": False, "network": PLAIN}),
        32,
        "mpe/simple_spread",
    ),
    "pqn_vdn_ff": (
        PQNVDN(
            learning_rate=5e-4,
            discount=0.9,
            trace=0.3,
            rollout_length=16,
            epochs=4,
            minibatches=16,
            max_grad_norm=1.0,
            agent_ids=True,
            final_explore=0.1,
            network=Network(hidden=(256, 256), activation="relu", layer_norm=True),
        ),
        256,
        "mpe/simple_spread",
    ),
    # One gradient step on 128 transitions for each 10 environment steps, as the peer's: here 6 after each step of 64.
    "dqn_cartpole": (
        DQN(
            learning_rate=2.5e-4,
            rollout_length=1,
            updates=6,
            batch_size=128,
            capacity=10_000,
            warm_up=10_000,
            target_every=50,
            double=False,
            explore_share=0.5,
            network=Network(hidden=(120, 84), activation="relu"),
        ),
        64,
        "gym/CartPole-v1",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS, required=True)
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate", action="store_true", help="512 greedy episodes at the end")
    parser.add_argument("--devices", type=int, default=0, help="host devices; 0: the library's default")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    configure()
    import jax

    import ludus
    from ludus.experiment.config import Config, Settings
    from ludus.experiment.train import program_of
    from ludus.runtime.evaluate import Evaluator

    algorithm, envs, game = VARIANTS[given.variant]
    steps = given.updates * envs * algorithm.rollout_length
    config = Config(algorithm, game, {}, Settings(steps=steps, num_envs=envs, devices=given.devices))
    env = ludus.make(config.environment)
    program = program_of(config, env)
    state = jax.block_until_ready(program.init(given.seed))
    begin = time.perf_counter()
    run = program.compile(state)
    compiled = time.perf_counter() - begin
    begin = time.perf_counter()
    for _ in range(program.calls):
        state, _ = jax.block_until_ready(run(state))  # as the trainer does
    seconds = time.perf_counter() - begin
    env_steps = program.calls * program.steps_per_call
    result = {
        "system": "ludus",
        "variant": given.variant,
        "devices": program.devices,
        "env_steps": env_steps,
        "seconds": seconds,
        "env_steps_per_second": env_steps / seconds,
        "compile_seconds": compiled,
        "versions": {"ludus": ludus.__version__, "jax": jax.__version__},
        "cpu_count": os.cpu_count(),
    }
    if given.evaluate:
        found = Evaluator(env)(program.policies(state), 512, jax.random.key(123), explore=False)
        result["final_return"] = float(next(iter(found.returns.values())).mean())
    print(json.dumps(result))


if __name__ == "__main__":
    main()
