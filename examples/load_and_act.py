"""A stored policy acts by itself: without trainer, environment or run directory.

python examples/load_and_act.py                                         # trains a short run first
python examples/load_and_act.py runs/NAME/policies/seed0/agents.safetensors
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp

import ludus


def train(steps: int) -> Path:
    """A short run; returns the file of its policy."""
    run = ludus.train(ludus.PPO(), "mpe/simple_spread", steps=steps, seed=0)
    return run.path / "policies" / "seed0" / "agents.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policy", nargs="?", type=Path, help="a policy of mpe/simple_spread")
    parser.add_argument("--steps", type=int, default=20_000, help="environment steps, if there is no policy yet")
    given = parser.parse_args()

    policy = ludus.load_policy(given.policy or train(given.steps))
    observation = jnp.zeros((3, 18))  # three agents, 18 numbers each
    decision = policy.act(observation)
    print("most likely actions:", decision.action)
    decision = policy.act(observation, key=jax.random.key(0), explore=True)
    print("sampled actions:", decision.action, "log-probabilities:", decision.log_prob)


if __name__ == "__main__":
    main()
