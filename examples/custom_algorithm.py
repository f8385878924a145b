"""An algorithm of one's own: PPO with a penalty on the change of policy in place of clipping.

    python examples/custom_algorithm.py --steps 200000

The objective is eq. 8 of Schulman et al. (2017) with a fixed weight β. Everything else (rollouts, advantages,
minibatches, recurrent policies, several agents) is inherited.
"""

import argparse
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

import ludus
from ludus.algorithms.policy_gradient.actor_critic import ActorCritic
from ludus.algorithms.policy_gradient.batch import Batch
from ludus.learning.statistics import standardise


@dataclass(frozen=True)
class PenaltyPPO(ActorCritic):
    """Importance-weighted policy gradient with a KL penalty."""

    penalty: float = 1.0
    """β: weight of the KL divergence from the policy that acted."""
    epochs: int = 4
    """Passes over each rollout."""
    minibatches: int = 4
    """Gradient steps of each pass."""

    def scale_advantages(self, advantage: Array, weight: Array) -> Array:
        """Mean 0 and deviation 1 over the rollout's acting steps."""
        return standardise(advantage, weight)

    def policy_loss(
        self, log_prob: Float[Array, "time env slot"], batch: Batch
    ) -> tuple[Float[Array, "time env slot"], dict[str, Array]]:
        """−ρ A + β KL, with ρ − 1 − log ρ as the estimate of the divergence."""
        log_ratio = jnp.where(batch.weight, log_prob - batch.log_prob, 0.0)
        ratio = jnp.exp(log_ratio)
        divergence = ratio - 1 - log_ratio
        return -ratio * batch.advantage + self.penalty * divergence, {"approximate_kl": divergence}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000, help="environment steps to train for")
    steps = parser.parse_args().steps

    algorithm = PenaltyPPO(learning_rate=1e-3, rollout_length=64)
    run = ludus.train(algorithm, "gym/CartPole-v1", steps=steps, num_envs=8)
    last = run.history[-1]
    print("return per agent in training:", last["return"], "losses:", last["losses"])
    print("return per agent, evaluated:", run.evaluations[-1]["mean_return"])


if __name__ == "__main__":
    main()
