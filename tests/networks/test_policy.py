"""Policies: shared, independent and seated ones act on rows as their parts would alone, and survive storage."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ludus.core.policy import Policy
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GroupSpec
from ludus.networks.build import architecture, build
from ludus.networks.policy import IndependentPolicy, NetworkPolicy
from ludus.networks.simple import RandomPolicy, SeatedPolicy
from ludus.networks.torso import Network
from toys import assert_close, assert_same

AGENTS, ENVS = 3, 4
FEED_FORWARD, RECURRENT = Network(hidden=(8,)), Network(hidden=(8,), memory="gru", memory_size=6)
GROUP = GroupSpec("agents", AGENTS, Box((5,)), Discrete(4), "team", AGENTS, masked=True)
ARM = GroupSpec("arms", AGENTS, Box((5,)), Box((2,), (-1.0, 0.0), (1.0, 4.0)), "team", AGENTS)
KEY = jax.random.key(0)


def shared(network=FEED_FORWARD, group=GROUP, seed=0, **options):
    """A policy that is far from uniform."""
    policy = NetworkPolicy.init(group, network, key=jax.random.key(seed), **options)
    return jax.tree.map(lambda x: 3 * x + 0.1, policy)


def independent(network=FEED_FORWARD, group=GROUP):
    return IndependentPolicy(jax.tree.map(lambda *x: jnp.stack(x), *singles(network, group)), AGENTS)


def singles(network=FEED_FORWARD, group=GROUP):
    """The members of `independent`."""
    return [shared(network, group, seed) for seed in range(AGENTS)]


def observations(*lead):
    return jax.random.normal(jax.random.key(1), (*lead, 5))


def masks(*lead):
    return jax.random.bernoulli(jax.random.key(2), 0.5, (*lead, 4)).at[..., 0].set(True)


@pytest.mark.parametrize("network", [FEED_FORWARD, RECURRENT])
def test_independent_policies_act_as_each_would_alone(network):
    """Oracle: agent i's own policy on row i, with and without environments in front."""
    x, legal = observations(ENVS, AGENTS), masks(ENVS, AGENTS)
    together = independent(network).act(x, legal)
    for i, policy in enumerate(singles(network)):
        alone = policy.act(x[:, i : i + 1], legal[:, i : i + 1])
        np.testing.assert_array_equal(together.action[:, i], alone.action[:, 0])
        np.testing.assert_allclose(together.log_prob[:, i], alone.log_prob[:, 0], rtol=1e-5)
        if network is RECURRENT:
            np.testing.assert_allclose(together.memory[:, i], alone.memory[:, 0], rtol=1e-5, atol=1e-6)
    assert_close(independent(network).act(x[0], legal[0]), jax.tree.map(lambda a: a[0], together), 1e-5)


@pytest.mark.parametrize("network", [FEED_FORWARD, RECURRENT])
def test_a_row_of_a_game_of_turns_is_played_by_the_agent_named(network):
    """Oracle: that agent's own policy on that row."""
    policy, x, legal = independent(network), observations(ENVS, 1), masks(ENVS, 1)
    agent = jnp.asarray([[2], [0], [1], [2]])
    memory = jax.tree.map(lambda m: m + 0.5, policy.initial_memory((ENVS, 1)))
    found = policy.act(x, legal, memory, agent=agent)
    for env, i in enumerate(np.asarray(agent)[:, 0]):
        alone = singles(network)[i].act(x[env], legal[env], jax.tree.map(lambda m, e=env: m[e], memory))
        assert_close(jax.tree.map(lambda a, e=env: a[e], found), alone, 1e-5)


def test_without_exploration_the_most_likely_legal_action_is_taken_and_no_key_is_needed():
    """Oracle: argmax of the head's logits over the legal actions."""
    policy, x, legal = shared(), observations(50, AGENTS), masks(50, AGENTS)
    logits = policy.head(policy.torso.step(x, ())[0], None).log_probs
    expected = jnp.where(legal, logits, -jnp.inf).argmax(-1)
    np.testing.assert_array_equal(policy.act(x, legal).action, expected)


def test_exploring_without_a_key_says_what_to_write():
    with pytest.raises(ValueError, match=r"key=jax\.random\.key"):
        shared().act(observations(AGENTS), masks(AGENTS), explore=True)


def test_explored_actions_are_legal_and_have_the_log_probability_reported():
    """Oracle: the distribution of the head."""
    policy, x, legal = shared(), observations(50, AGENTS), masks(50, AGENTS)
    decision = policy.act(x, legal, key=KEY, explore=True)
    distribution = policy.head(policy.torso.step(x, ())[0], legal)
    assert np.take_along_axis(np.asarray(legal), np.asarray(decision.action)[..., None], -1).all()
    np.testing.assert_allclose(decision.log_prob, distribution.log_prob(decision.action), rtol=1e-6)


def test_continuous_actions_start_in_the_middle_and_stay_in_bounds_without_exploration():
    """Oracle: the space; a fresh policy's mean is near the centre with half the width as deviation."""
    fresh = NetworkPolicy.init(ARM, FEED_FORWARD, key=KEY)
    x = observations(200, AGENTS)
    distribution = fresh.head(fresh.torso.step(x, ())[0], None)
    np.testing.assert_allclose(distribution.mean, np.broadcast_to([0.0, 2.0], distribution.mean.shape), atol=0.1)
    np.testing.assert_allclose(np.exp(distribution.log_std)[0, 0], [1.0, 2.0], rtol=1e-6)
    wild = jax.tree.map(lambda w: 50 * w, fresh)
    action = np.asarray(wild.act(x).action)
    low, high = np.asarray([-1.0, 0.0], np.float32), np.asarray([1.0, 4.0], np.float32)
    assert ((action >= low) & (action <= high)).all() and (action == low).any() and (action == high).any()


@pytest.mark.parametrize("lead", [(), (ENVS,)])
def test_seats_are_played_by_their_policies(lead):
    """Oracle: each policy alone; rows take the action of their seat's policy, with any axes in front."""
    first, second = shared(seed=1), shared(seed=2)
    seated = SeatedPolicy((first, second), jnp.asarray([1, 0, 1]))
    x, legal = observations(*lead, AGENTS), masks(*lead, AGENTS)
    found = seated.act(x, legal).action
    a, b = first.act(x, legal).action, second.act(x, legal).action
    np.testing.assert_array_equal(found, jnp.stack([b[..., 0], a[..., 1], b[..., 2]], axis=-1))
    mover = jnp.broadcast_to(jnp.asarray([1]), (*lead, 1))
    row = seated.act(x[..., :1, :], legal[..., :1, :], agent=mover).action
    np.testing.assert_array_equal(row, a[..., :1])


def test_random_play_is_uniform_over_legal_actions_and_within_bounds():
    """Oracle: counts within four standard deviations, and the log-probabilities of uniform densities."""
    legal = jnp.broadcast_to(jnp.asarray([True, False, True, True]), (6000, AGENTS, 4))
    decision = RandomPolicy(GROUP).act(jnp.zeros((6000, AGENTS, 5)), legal, key=KEY)
    counts = np.bincount(np.asarray(decision.action).ravel(), minlength=4)
    assert counts[1] == 0 and (np.abs(counts[[0, 2, 3]] - 6000) < 4 * np.sqrt(18000 * 2 / 9)).all()
    np.testing.assert_allclose(decision.log_prob, np.log(1 / 3), rtol=1e-6)
    reals = RandomPolicy(ARM).act(jnp.zeros((500, AGENTS, 5)), key=KEY)
    low, high = np.asarray(reals.action).min((0, 1)), np.asarray(reals.action).max((0, 1))
    assert (low >= [-1, 0]).all() and (high <= [1, 4]).all() and ((high - low) > [1.9, 3.8]).all()
    np.testing.assert_allclose(reals.log_prob, -np.log(8), rtol=1e-6)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("group", [GROUP, ARM])
def test_a_policy_is_restored_from_plain_values_and_arrays(group, alone):
    """Oracle: the same actions as before; the architecture passes through JSON as it does in a file."""
    network = Network(hidden=(8,), layer_norm=True, memory="gru", memory_size=6, after=(7,))
    policy = independent(network, group) if alone else shared(network, group, agent_ids=True)
    plain = architecture(group, network, independent=alone, agent_ids=not alone)
    again = build(json.loads(json.dumps(plain)))
    assert isinstance(again, Policy) and jax.tree.structure(again) == jax.tree.structure(policy)
    restored = jax.tree.unflatten(jax.tree.structure(again), jax.tree.leaves(policy))
    x = observations(ENVS, AGENTS)
    assert_same(restored.act(x), policy.act(x))
