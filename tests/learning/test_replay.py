"""Replay gives back what was stored, with the right probabilities."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ludus.learning.replay import Replay, by_env, by_time
from ludus.networks.simple import RandomPolicy
from ludus.runtime.rollout import collect, init_actors
from toys import Drift, Turns

ENVS, LENGTH, SLOTS = 4, 6, 5


@functools.cache
def rollouts(kind):
    """Eight rollouts in a row, with ends of both kinds inside."""
    env = {"simultaneous": Drift(agents=3, masked=True), "turns": Turns(truncates=True)}[kind]
    policies = {g.name: RandomPolicy(g) for g in env.spec.groups}
    actors = init_actors(env, policies, jax.random.split(jax.random.key(0), ENVS))
    play = jax.jit(lambda a: collect(env, policies, a, LENGTH)[:2])
    found = []
    for _ in range(8):
        actors, rollout = play(actors)
        found.append(rollout)
    return found


def empty(rollout, **settings):
    segment = jax.eval_shape(lambda: jax.tree.map(lambda x: x[0], by_env(rollout)))
    return Replay.empty(segment, ENVS, SLOTS, **settings)


@pytest.mark.parametrize("kind", ["simultaneous", "turns"])
def test_moving_axes_there_and_back_changes_nothing(kind):
    rollout = rollouts(kind)[0]
    back = by_time(by_env(rollout))
    assert jax.tree.structure(back) == jax.tree.structure(rollout)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(rollout), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["simultaneous", "turns"])
def test_samples_are_stored_segments_and_old_ones_are_overwritten(kind):
    replay = empty(rollouts(kind)[0], prioritised=False)
    for count, rollout in enumerate(rollouts(kind), start=1):
        replay = replay.push(rollout)
        assert int(replay.filled) == min(count, SLOTS)
    sample = replay.sample(8, jax.random.key(3))
    for k in range(8):
        env, slot = int(sample.env[k]), int(sample.slot[k])
        source = rollouts(kind)[5 + slot if slot < 3 else slot]  # eight pushed into five slots
        for field in ("start", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(sample.rollout, field)[:, k], getattr(source, field)[:, env])
        (name,) = sample.rollout.groups
        mine, theirs = sample.rollout.groups[name], source.groups[name]
        np.testing.assert_array_equal(mine.observation[:, k], theirs.observation[:, env])
        np.testing.assert_array_equal(mine.next.observation[k], theirs.next.observation[env])
        np.testing.assert_array_equal(mine.last.observation[:, k], theirs.last.observation[:, env])
        np.testing.assert_array_equal(sample.rollout.last_time[:, k], source.last_time[:, env])


def drawn(replay, size, repeats, **settings):
    """How often each segment was sampled."""
    samples = jax.jit(jax.vmap(lambda k: replay.sample(size, k, **settings)))(
        jax.random.split(jax.random.key(1), repeats)
    )
    counts = np.zeros((ENVS, SLOTS))
    np.add.at(counts, (np.asarray(samples.env).reshape(-1), np.asarray(samples.slot).reshape(-1)), 1)
    return counts, samples


@pytest.mark.parametrize("size", [2, 4, 8])
@pytest.mark.parametrize("pushed", [3, 8])
def test_uniform_samples_are_uniform_over_what_is_there(size, pushed):
    replay = empty(rollouts("simultaneous")[0], prioritised=False)
    for rollout in rollouts("simultaneous")[:pushed]:
        replay = replay.push(rollout)
    counts, _ = drawn(replay, size, 4000 // size)
    there = counts[:, : min(pushed, SLOTS)]
    assert counts.sum() == there.sum() == 4000
    assert stats.chisquare(there.reshape(-1)).pvalue > 1e-3


def test_prioritised_samples_follow_their_priorities_and_weights_correct_for_it():
    replay = empty(rollouts("simultaneous")[0], prioritised=True)
    for rollout in rollouts("simultaneous"):
        replay = replay.push(rollout)
    rng = np.random.default_rng(0)
    priority = rng.uniform(0.1, 3.0, (ENVS, SLOTS))
    replay = Replay(replay.segments, jnp.asarray(priority, jnp.float32), replay.largest, replay.pushed)
    counts, samples = drawn(replay, 4, 3000, exponent=0.6, correction=1.0)
    expected = priority**0.6 / (priority**0.6).sum()
    assert stats.chisquare(counts.reshape(-1), 12_000 * expected.reshape(-1)).pvalue > 1e-3
    env, slot = np.asarray(samples.env), np.asarray(samples.slot)
    raw = 1.0 / (ENVS * SLOTS * expected[env, slot])
    np.testing.assert_allclose(samples.weight, raw / raw.max(1, keepdims=True), rtol=1e-4)


def test_new_segments_get_the_largest_priority_and_sampled_ones_their_error():
    replay = empty(rollouts("simultaneous")[0], prioritised=True).push(rollouts("simultaneous")[0])
    np.testing.assert_array_equal(replay.priority[:, 0], 1.0)
    sample = replay.sample(4, jax.random.key(0), exponent=0.6)
    replay = replay.prioritise(sample, jnp.array([0.5, -7.0, 0.0, 0.25]))
    np.testing.assert_allclose(replay.priority[sample.env, 0], [0.5, 7.0, 0.0, 0.25], atol=1e-5)
    np.testing.assert_allclose(replay.push(rollouts("simultaneous")[1]).priority[:, 1], 7.0, atol=1e-5)
