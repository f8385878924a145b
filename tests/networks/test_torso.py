"""The torso: parts in the right order, whole rollouts as single steps, and one memory for each seat."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ludus.networks.torso import Network, Torso

TIME, ENVS, AGENTS, FEATURES = 8, 3, 2, 4
RECURRENT = Network(hidden=(6,), memory="gru", memory_size=5, after=(7,))


def inputs(shape=(TIME, ENVS, AGENTS, FEATURES), seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def unroll(torso, *arguments):
    """Features and memories of all steps."""
    core, memories = torso.unroll_core(*arguments)
    return torso.after(core), memories


@pytest.mark.parametrize("network", [Network(hidden=(6, 5), layer_norm=True), RECURRENT])
def test_unrolling_a_rollout_is_taking_its_steps_one_by_one(network):
    """Oracle: `step` in a loop, with memory set to zero where an episode starts."""
    torso = Torso.init((FEATURES,), network, key=jax.random.key(1))
    x, start = inputs(), jax.random.bernoulli(jax.random.key(2), 0.3, (TIME, ENVS))
    memory = torso.initial_memory((ENVS, AGENTS))
    features, _ = unroll(torso, x, memory, start)
    for t in range(TIME):
        memory = jax.tree.map(lambda m: jnp.where(start[t][:, None, None], 0.0, m), memory)
        expected, memory = torso.step(x[t], memory)
        np.testing.assert_allclose(features[t], expected, rtol=1e-5, atol=1e-6)


def test_with_seats_every_agent_remembers_its_own_moves_alone():
    """Oracle: the GRU run on each agent's own subsequence of each episode."""
    torso = Torso.init((FEATURES,), RECURRENT, key=jax.random.key(1))
    random = np.random.default_rng(0)
    x = inputs((TIME, ENVS, 1, FEATURES))
    seat = random.integers(0, AGENTS, (TIME, ENVS, 1))
    start = random.random((TIME, ENVS)) < 0.25
    acting = seat == np.arange(AGENTS)
    before = jax.random.normal(jax.random.key(3), (ENVS, AGENTS, 5))
    features, memories = unroll(torso, x, before, jnp.asarray(start), jnp.asarray(seat), jnp.asarray(acting))
    for env in range(ENVS):
        memory = list(before[env])
        for t in range(TIME):
            if start[t, env]:
                memory = [jnp.zeros(5)] * AGENTS
            mover = seat[t, env, 0]
            expected, memory[mover] = torso.step(x[t, env, 0], memory[mover])
            np.testing.assert_allclose(features[t, env, 0], expected, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(memories[t, env], jnp.stack(memory), rtol=1e-5, atol=1e-6)


def test_a_row_whose_agent_does_not_act_changes_no_memory():
    """Oracle: memory after such a step is memory before it."""
    torso = Torso.init((FEATURES,), RECURRENT, key=jax.random.key(1))
    before = jax.random.normal(jax.random.key(3), (ENVS, AGENTS, 5))
    seat, nobody = jnp.zeros((1, ENVS, 1), int), jnp.zeros((1, ENVS, AGENTS), bool)
    _, memories = unroll(torso, inputs((1, ENVS, 1, FEATURES)), before, jnp.zeros((1, ENVS), bool), seat, nobody)
    np.testing.assert_array_equal(memories[0], before)


def test_agent_numbers_are_appended_to_observations():
    """Oracle: a torso for wider observations, given the one-hot numbers by hand; seats say whose row it is."""
    numbered = Torso.init((FEATURES,), Network(hidden=(6,)), agents=AGENTS, key=jax.random.key(1))
    plain = Torso(numbered.conv, numbered.before, None, numbered.after, 1, 0)
    x = inputs((ENVS, AGENTS, FEATURES))
    wide = jnp.concatenate([x, jnp.broadcast_to(jnp.eye(AGENTS), (ENVS, AGENTS, AGENTS))], axis=-1)
    np.testing.assert_array_equal(numbered.step(x, ())[0], plain.step(wide, ())[0])
    seat = jnp.asarray([[1], [0], [1]])
    wide = jnp.concatenate([x[:, :1], jnp.eye(AGENTS)[seat]], axis=-1)
    np.testing.assert_array_equal(numbered.step(x[:, :1], (), seat)[0], plain.step(wide, ())[0])


def test_convolutions_see_each_image_for_itself():
    """Oracle: the image alone, and one window of the first layer computed in numpy."""
    torso = Torso.init((5, 4, 2), Network(conv=(3,), hidden=(6,), activation="relu"), key=jax.random.key(1))
    x = inputs((TIME, ENVS, AGENTS, 5, 4, 2))
    together, _ = unroll(torso, x, (), jnp.zeros((TIME, ENVS), bool))
    np.testing.assert_allclose(together[3, 1, 1], torso.step(x[3, 1, 1][None], ())[0][0], rtol=1e-5, atol=1e-6)
    image = np.pad(np.asarray(x[0, 0, 0]), ((1, 1), (1, 1), (0, 0)))
    window = np.tensordot(image[2:5, 1:4], np.asarray(torso.conv[0].weight), 3) + np.asarray(torso.conv[0].bias)
    np.testing.assert_allclose(torso.conv[0](x[0, 0, 0])[2, 1], window, rtol=1e-4, atol=1e-5)


def test_whole_numbers_and_booleans_are_observations_too():
    torso = Torso.init((FEATURES,), Network(hidden=(6,)), key=jax.random.key(1))
    x = inputs((ENVS, AGENTS, FEATURES)) > 0
    np.testing.assert_array_equal(torso.step(x, ())[0], torso.step(x.astype(jnp.float32), ())[0])
    np.testing.assert_array_equal(torso.step(x.astype(jnp.int32), ())[0], torso.step(x.astype(jnp.float32), ())[0])
