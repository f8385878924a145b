"""NFSP's bookkeeping, and MMD's fixed points where plain policy gradients cycle."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ludus
from ludus.algorithms.policy_gradient.mmd import MMD
from ludus.algorithms.value.dqn import DQN
from ludus.algorithms.value.nfsp import NFSP
from ludus.equilibria.dynamics import logit_qre
from ludus.runtime.device import Program
from ludus.runtime.rollout import collect

SMALL = ludus.Network(hidden=(32,))
TINY = DQN(rollout_length=4, updates=1, batch_size=8, capacity=1024, warm_up=64, network=SMALL)


def test_an_agent_decides_once_an_episode_which_policy_it_plays():
    env = ludus.make("spiel/kuhn_poker")
    program = Program(NFSP(best=TINY, network=SMALL, anticipation=0.3), env, 64, 64 * 64)
    state = program.init(0)
    learner = jax.tree.map(lambda x: x[0], state.learner)
    actors = jax.tree.map(lambda x: x[0], state.actors)
    _, rollout, _ = jax.jit(lambda a: collect(env, program.algorithm.policy(learner), a, 60))(actors)
    group = rollout.groups["players"]
    best, seat, start = (np.asarray(x) for x in (group.extras["best"][..., 0], group.seat[..., 0], rollout.start))
    chosen = []
    for e in range(64):
        episode = np.cumsum(start[:, e])
        for k in np.unique(episode):
            for player in (0, 1):
                own = best[(episode == k) & (seat[:, e] == player), e]
                assert len(set(own.tolist())) <= 1  # never both within an episode
                chosen += own[:1].tolist()
    share = np.mean(chosen)
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / len(chosen))


def test_the_reservoir_holds_what_best_responses_did_and_nothing_else():
    env = ludus.make("spiel/kuhn_poker")
    algorithm = NFSP(best=TINY, network=SMALL, anticipation=0.3, reservoir=64 * 100)
    program = Program(algorithm, env, 64, 64 * 4)
    state = program.init(0)
    learner = jax.tree.map(lambda x: x[0], state.learner)
    actors = jax.tree.map(lambda x: x[0], state.actors)
    _, rollout, _ = collect(env, algorithm.policy(learner), actors, 4)
    after, _ = jax.jit(lambda le, r: algorithm.update(le, r, key=jax.random.key(1)))(learner, rollout)
    [reservoir] = after.per_env[1]["players"]
    group = rollout.groups["players"]
    did = np.asarray(group.extras["best"][..., 0])
    np.testing.assert_array_equal(reservoir.pushed, did.sum(0))
    for e in range(64):
        kept = np.asarray(reservoir.items["action"][e, : int(did[:, e].sum())])
        np.testing.assert_array_equal(kept, np.asarray(group.action[..., 0])[did[:, e], e])


@pytest.mark.parametrize("temperature", [pytest.param(0.5, marks=pytest.mark.slow), 1.0])
def test_mmds_last_policy_is_the_quantal_response_equilibrium(temperature):
    """[[3, −1], [−1, 1]], whose only equilibrium is mixed. Oracle: the equilibrium of that temperature, solved."""
    payoffs = np.array([[3.0, -1.0], [-1.0, 1.0]])
    expected = logit_qre(jnp.asarray(np.stack([payoffs, -payoffs], -1)), temperature)
    algorithm = MMD(
        rollout_length=8,
        minibatches=1,
        epochs=4,
        parameters="independent",
        temperature=temperature,
        final_temperature=temperature,
        step_size=0.1,
        final_step_size=0.03,
        learning_rate=3e-3,
        anneal=True,
        network=SMALL,
    )
    options = {"payoffs": np.stack([payoffs, -payoffs], -1).tolist()}
    run = ludus.train(algorithm, "matrix/custom", options=options, steps=800_000, num_envs=128, evaluate_episodes=8)
    env = ludus.make("matrix/custom", **options)
    _, step = env.reset(jax.random.key(0))
    rows = []
    for group in env.spec.groups:
        distribution, _ = run.policy[group.name].distribution(step.observation[group.name])
        rows += list(np.exp(np.asarray(distribution.log_probs)))
    np.testing.assert_allclose(rows, expected, atol=0.05)


def test_nfsp_refuses_what_it_cannot_do():
    recurrent = NFSP(network=ludus.Network(memory="gru"))
    with pytest.raises(ludus.UsageError, match="without memory"):
        ludus.train(recurrent, "spiel/kuhn_poker", steps=64)
