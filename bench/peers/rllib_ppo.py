"""RLlib's PPO on MPE2's spread, one network for all agents: environment steps a second while it trains.

    python bench/peers/rllib_ppo.py [--envs 32] [--workers 2] [--seconds 30]

Needs an environment of its own: pip install 'ray[rllib]' torch mpe2 pettingzoo. Network, batch, epochs and minibatches
are those of `bench/host.py rllib`. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from importlib import metadata


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()

    import ray
    from mpe2 import simple_spread_v3
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv
    from ray.tune.registry import register_env

    ray.init(num_cpus=given.workers + 2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    register_env("spread", lambda _: ParallelPettingZooEnv(simple_spread_v3.parallel_env()))
    steps = given.envs * given.length
    config = (
        PPOConfig()
        .environment("spread")
        .multi_agent(policies={"shared"}, policy_mapping_fn=lambda agent, episode, **_: "shared")
        .env_runners(
            num_env_runners=given.workers,
            num_envs_per_env_runner=given.envs // given.workers,
            rollout_fragment_length=given.length,
            batch_mode="truncate_episodes",
        )
        .learners(num_learners=0)
        .training(train_batch_size_per_learner=steps, minibatch_size=steps * 3 // 4, num_epochs=4, lr=1e-3)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[64, 64], fcnet_activation="tanh"))
    )
    algorithm = config.build_algo()
    key = "num_env_steps_sampled_lifetime"
    first = algorithm.train()["env_runners"][key]
    begin, updates, found = time.perf_counter(), 0, first
    while (spent := time.perf_counter() - begin) < given.seconds:
        result = algorithm.train()
        found, updates = result["env_runners"][key], updates + 1
    told = {
        "steps_per_second": (found - first) / spent,
        "steps_per_update": (found - first) / updates,
        "updates": updates,
        "return": result["env_runners"].get("episode_return_mean"),
        "ray": metadata.version("ray"),
        "torch": metadata.version("torch"),
    }
    print(json.dumps(told))
    algorithm.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
