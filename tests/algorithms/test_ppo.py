"""PPO's and MAPPO's losses against hand-computed units, rlax and optax, and what must not matter to them."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from algorithms.learners import DRIFT, SHARED, group_of, prepared, updated
from ludus.algorithms.policy_gradient.mappo import MAPPO
from ludus.algorithms.policy_gradient.ppo import PPO, surrogate
from toys import assert_close, assert_same, play


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective"), [(1.3, 1, 1.2), (0.7, 1, 0.7), (1.3, -1, -1.3), (0.7, -1, -0.8)]
)
def test_the_clipped_objective_of_one_step(ratio, advantage, objective):
    """Oracle: by hand, ε = 0.2."""
    np.testing.assert_allclose(surrogate(jnp.asarray(ratio), jnp.asarray(advantage, float), 0.2), objective, rtol=1e-6)


def test_the_surrogates_gradient_is_that_of_rlax():
    """Oracle: rlax.clipped_surrogate_pg_loss on random ratios and advantages."""
    random = np.random.default_rng(0)
    ratio, advantage = jnp.asarray(random.uniform(0.5, 1.6, 200)), jnp.asarray(random.normal(size=200))
    found = jax.grad(lambda r: -surrogate(r, advantage, 0.2).mean())(ratio)
    expected = jax.grad(lambda r: rlax.clipped_surrogate_pg_loss(r, advantage, 0.2))(ratio)
    assert (np.asarray(expected) == 0).any()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("algorithm", "scale"), [(PPO(), 0.5), (MAPPO(), 0.5)])
def test_the_value_loss_takes_the_worse_of_the_clipped_and_the_unclipped_value(algorithm, scale):
    """Oracle: by hand, ε = 0.2: moved too far towards the target, too far from it, and not far."""
    row = lambda *x: jnp.asarray(x, jnp.float32)[:, None, None]
    loss = algorithm.value_loss(row(1.0, -1.0, 0.1), row(0.0, 0.0, 0.0), row(1.0, 1.0, 1.0))
    np.testing.assert_allclose(loss[:, 0, 0], scale * np.asarray([0.8**2, 2.0**2, 0.9**2]), rtol=1e-6)


@pytest.fixture(scope="module")
def gradients():
    """PPO's batch of one rollout, and the gradients of any batch like it."""
    learner, rollout = play(SHARED, DRIFT)
    group, batch = group_of(learner), prepared(SHARED, DRIFT, learner, rollout)
    # A policy that has moved on from the one that acted, so that ratios differ from 1.
    moved = jax.tree.map(lambda x: 1.1 * x, group.models)
    run = jax.jit(lambda batch: SHARED._gradients(moved, batch, jnp.arange(12)[None], group.normaliser))
    return batch, run


def test_steps_without_weight_have_no_influence_at_all(gradients):
    """Oracle: those entries replaced by others; gradients and losses are the same to the last bit."""
    batch, run = gradients
    off = ~batch.weight
    assert 0.05 < off.mean() < 0.95
    random = np.random.default_rng(0)

    def spoil(x):
        mask = np.asarray(off).reshape(*off.shape, *[1] * (x.ndim - off.ndim))
        noise = random.integers(0, 3, x.shape) if x.dtype == jnp.int32 else random.normal(0, 30, x.shape)
        return jnp.where(mask, jnp.asarray(noise, x.dtype), x)

    fields = lambda b: (b.now.observation, b.action, b.log_prob, b.advantage, b.target, b.old_value)
    spoiled = eqx.tree_at(fields, batch, [spoil(x) for x in fields(batch)])
    assert_same(run(spoiled), run(batch))


def test_steps_with_weight_do_have_influence(gradients):
    """The counterpart of the test above: one advantage changed changes the gradient."""
    batch, run = gradients
    index = tuple(np.argwhere(np.asarray(batch.weight))[0])
    other = eqx.tree_at(lambda b: b.advantage, batch, batch.advantage.at[index].add(1.0))
    assert not np.array_equal(run(other)[0].policy.head.linear.bias, run(batch)[0].policy.head.linear.bias)


def test_the_first_step_on_a_rollout_is_the_plain_policy_gradient(gradients):
    """Oracle: ∇ −A log π; at ratio 1 the clipped surrogate has the same gradient."""
    batch, _ = gradients
    log_prob = batch.log_prob
    found = jax.grad(lambda lp: PPO().policy_loss(lp, batch)[0].sum())(log_prob)
    np.testing.assert_allclose(np.where(batch.weight, found, 0), np.where(batch.weight, -batch.advantage, 0), rtol=1e-6)


def test_advantages_have_mean_zero_and_deviation_one_over_steps_with_weight(gradients):
    """Oracle: numpy over the entries with weight."""
    batch, _ = gradients
    x = np.asarray(batch.advantage)[np.asarray(batch.weight)]
    assert abs(x.mean()) < 1e-5 and abs(x.std() - 1) < 1e-4


def test_before_the_first_gradient_step_no_value_counts_as_moved():
    """Oracle: the update without value clipping; with one step on a rollout both are the same, even while the value
    normaliser takes in a rollout on another scale."""
    learner, rollout = play(SHARED, DRIFT)
    method = replace(SHARED, epochs=1, minibatches=1, normalise_values=True)
    reward = rollout.groups["walkers"].reward
    rollout = eqx.tree_at(lambda r: r.groups["walkers"].reward, rollout, 10 * reward + 10)
    learn = lambda clip: group_of(updated(replace(method, clip_values=clip), learner, rollout))
    assert_close(learn(True), learn(False), 1e-6)
