"""Ludus's side of the throughput benchmark: the same network, batch and epochs as `peers/jaxmarl_ppo.py`.

Prints one JSON object; compile time apart; an environment step is one step of one environment, all agents moving.
"""

from __future__ import annotations

import argparse
import json
import os
import time

from ludus.algorithms.policy_gradient.mappo import MAPPO
from ludus.algorithms.policy_gradient.ppo import PPO
from ludus.networks.torso import Network
from ludus.runtime.setup import configure

RECURRENT = Network(hidden=(128,), activation="relu", memory="gru", memory_size=128, after=(128,))
# The peer's published settings for MPE, so that both sides do the same work.
VARIANTS = {
    "ippo_ff": PPO(learning_rate=2.5e-4),
    "ippo_rnn": PPO(learning_rate=5e-4, clip=0.3, minibatches=2, value_weight=1.0, network=RECURRENT, share_torso=True),
    "mappo_rnn": MAPPO(learning_rate=2e-3, network=RECURRENT, normalise_values=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS, required=True)
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--devices", type=int, default=0, help="host devices; 0: the library's default")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    configure()
    import jax

    import ludus
    from ludus.experiment.config import Config, Settings
    from ludus.experiment.train import program_of

    algorithm = VARIANTS[given.variant]
    steps = given.updates * given.num_envs * algorithm.rollout_length
    settings = Settings(steps=steps, num_envs=given.num_envs, seeds=given.seeds, devices=given.devices)
    config = Config(algorithm, "mpe/simple_spread", {}, settings)
    program = program_of(config, ludus.make(config.environment))
    state = jax.block_until_ready(program.init(0))
    begin = time.perf_counter()
    run = program.compile(state)
    compiled = time.perf_counter() - begin
    state, _ = jax.block_until_ready(run(state))  # warm-up: not counted
    begin = time.perf_counter()
    for _ in range(program.calls):
        state, _ = jax.block_until_ready(run(state))  # as the trainer does
    seconds = time.perf_counter() - begin
    env_steps = program.calls * program.steps_per_call * given.seeds
    print(
        json.dumps(
            {
                "system": "ludus",
                "variant": given.variant,
                "num_envs": given.num_envs,
                "seeds": given.seeds,
                "devices": program.devices,
                "env_steps": env_steps,
                "seconds": seconds,
                "env_steps_per_second": env_steps / seconds,
                "compile_seconds": compiled,
                "versions": {"ludus": ludus.__version__, "jax": jax.__version__},
                "cpu_count": os.cpu_count(),
            }
        )
    )


if __name__ == "__main__":
    main()
