"""Rollouts against episodes played by hand from what the observations say; they hold all of the state."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from ludus.networks.simple import RandomPolicy
from ludus.runtime.rollout import collect, init_actors
from toys import Counter, Drift, Spoiled, Turns, assert_same, drift_by_hand

ENVS, LENGTH, HORIZON = 6, 17, 5
ENV = Drift(agents=2, horizon=HORIZON)


def rollouts(env, policies, keys, length=LENGTH, times=2, **options):
    """Several rollouts in a row: what `collect` returned each time."""
    actors = jax.jit(lambda k: init_actors(env, policies, k))(keys)
    run = jax.jit(lambda a: collect(env, policies, a, length, **options))
    found = []
    for _ in range(times):
        found.append(run(actors))
        actors = found[-1][0]
    return found


def random_play(env):
    return {group.name: RandomPolicy(group) for group in env.spec.groups}


@pytest.fixture(scope="module")
def played():
    """Two rollouts in a row, joined in time: `[time, env, ...]`."""
    found = rollouts(ENV, random_play(ENV), jax.random.split(jax.random.key(0), ENVS))
    joined = lambda pick: np.concatenate([np.asarray(pick(rollout)) for _, rollout, _ in found])
    own = lambda field: joined(lambda r: getattr(r.groups["walkers"], field))
    fields = {name: own(name) for name in ("observation", "acting", "action", "reward")}
    fields |= {name: joined(lambda r, n=name: getattr(r, n)) for name in ("start", "terminated", "truncated")}
    return found, fields


def test_every_step_is_that_of_the_game_played_by_hand(played):
    """Oracle: the rule of the game in numpy, from each observation to the next within an episode."""
    _, x = played
    for t, e in np.ndindex(2 * LENGTH, ENVS):
        place, time, birth = x["observation"][t, e].T
        after, terminated, truncated = drift_by_hand(place, int(time[0]), x["action"][t, e], HORIZON)
        np.testing.assert_allclose(x["reward"][t, e], after, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(x["acting"][t, e], np.abs(place) < 1)
        assert (x["terminated"][t, e], x["truncated"][t, e]) == (terminated, truncated)
        if t + 1 < 2 * LENGTH and not (terminated or truncated):
            np.testing.assert_allclose(x["observation"][t + 1, e, :, 0], after, rtol=1e-6, atol=1e-7)
            np.testing.assert_array_equal(x["observation"][t + 1, e, :, 1], time + 1)
            np.testing.assert_array_equal(x["observation"][t + 1, e, :, 2], birth)
    assert x["terminated"].any() and x["truncated"].any() and not x["acting"].all()


def test_an_episode_that_ends_is_followed_by_the_first_observation_of_another(played):
    """Oracle: time 0, and a number of birth seen nowhere before; `start` stands there and nowhere else."""
    _, x = played
    ended = np.concatenate([np.ones((1, ENVS), bool), (x["terminated"] | x["truncated"])[:-1]])
    np.testing.assert_array_equal(x["start"], ended)
    np.testing.assert_array_equal(x["start"], x["observation"][:, :, 0, 1] == 0)
    births = x["observation"][:, :, 0, 2]
    assert len(np.unique(births)) == x["start"].sum()


def test_truncated_episodes_leave_their_true_last_observation(played):
    """Oracle: the rule of the game applied to the last step; unused rows say so."""
    found, _ = played
    rows = 0
    for _, rollout, _ in found:
        own, times = rollout.groups["walkers"], np.asarray(rollout.last_time)
        assert times.shape[0] == 1 + (LENGTH - 1) // HORIZON
        for e in range(ENVS):
            np.testing.assert_array_equal(times[times[:, e] < LENGTH, e], np.flatnonzero(rollout.truncated[:, e]))
        for row, e in np.argwhere(times < LENGTH):
            t = times[row, e]
            place, time, birth = np.asarray(own.observation[t, e]).T
            after, *_ = drift_by_hand(place, int(time[0]), np.asarray(own.action[t, e]), HORIZON)
            expected = np.stack([after, time + 1, birth], axis=-1)
            np.testing.assert_allclose(own.last.observation[row, e], expected, rtol=1e-6, atol=1e-7)
            np.testing.assert_array_equal(own.last.acting[row, e], np.abs(after) < 1)
            rows += 1
    assert rows > ENVS


def test_what_follows_the_rollout_is_the_first_observation_of_the_next(played):
    (_, first, _), (_, second, _) = played[0]
    np.testing.assert_array_equal(first.groups["walkers"].next.observation, second.groups["walkers"].observation[0])


def test_episodes_are_counted_with_their_returns_and_lengths(played):
    """Oracle: sums over the episodes that end in each rollout, also those that began in the one before."""
    found, x = played
    done, totals = x["terminated"] | x["truncated"], {0: [], 1: []}
    for e in range(ENVS):
        begin = 0
        for t in np.flatnonzero(done[:, e]):
            totals[t // LENGTH].append((x["reward"][begin : t + 1, e].sum(0).mean(), t + 1 - begin))
            begin = t + 1
    for part, (_, _, episodes) in enumerate(found):
        returns, lengths = np.asarray(totals[part]).T
        assert episodes.count == len(returns) and episodes.length == lengths.sum() and episodes.skipped == 0
        np.testing.assert_allclose(episodes.returns["walkers"], returns.sum(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(episodes.squares["walkers"], (returns**2).sum(), rtol=1e-4)


@pytest.mark.parametrize("env", [ENV, Turns(length=4)], ids=["simultaneous", "of turns"])
def test_memory_is_cleared_when_an_episode_begins_and_only_movers_remember(env):
    """Oracle: a policy that counts its own moves of the episode, and plays their number modulo 3."""
    name = env.spec.groups[0].name
    found = rollouts(env, {name: Counter()}, jax.random.split(jax.random.key(1), ENVS))
    counts = np.zeros((ENVS, 2), int)
    for _, rollout, _ in found:
        own = rollout.groups[name]
        started = np.asarray(rollout.start)
        np.testing.assert_array_equal(np.asarray(own.memory)[~started[0], :, 0], counts[~started[0]])
        for t, e in np.ndindex(LENGTH, ENVS):
            if started[t, e]:
                counts[e] = 0
            movers = [0, 1] if own.seat is None else np.asarray(own.seat[t, e])
            np.testing.assert_array_equal(own.action[t, e], counts[e, movers] % 3)
            counts[e, movers] += 1
    assert counts.max() > 0


def test_an_environments_trajectory_depends_on_its_own_key_alone():
    """Oracle: the same keys in another order, in a smaller block, and with other neighbours; equal to the last bit."""
    env = Drift(agents=2, noise=0.1)
    keys = jax.random.split(jax.random.key(2), ENVS)
    order = np.asarray([3, 0, 5, 1, 2, 4])
    (_, first, _), (_, second, _) = (rollouts(env, random_play(env), k, times=1)[0] for k in (keys, keys[order]))
    (_, few, _) = rollouts(env, random_play(env), keys[:2], times=1)[0]
    timed = lambda rollout: (rollout.start, rollout.terminated, rollout.truncated, rollout.groups["walkers"].last)
    for pick in (timed, lambda r: (r.groups["walkers"].observation, r.groups["walkers"].action)):
        assert_same(pick(second), jax.tree.map(lambda x: x[:, order], pick(first)))
        assert_same(pick(few), jax.tree.map(lambda x: x[:, :2], pick(first)))


@pytest.mark.optimised
@pytest.mark.parametrize("where", ["reward", "observation"])
def test_skipping_cuts_the_episode_that_is_not_finite_and_no_other(where):
    """Oracle: the rollout without NaN: the same everywhere else; at the cut nobody acts, so nothing learns of it."""
    keys = jax.random.split(jax.random.key(0), ENVS)
    _, clean, _ = rollouts(ENV, random_play(ENV), keys, times=1)[0]
    births, times = np.asarray(clean.groups["walkers"].observation[:, 2, 0]).T[[2, 1]]
    t = int(np.flatnonzero(times == 1)[0])
    spoiled = Spoiled(ENV, births[t], 2, where=where)
    _, found, episodes = rollouts(spoiled, random_play(ENV), keys, times=1, skip=True)[0]
    own = found.groups["walkers"]
    assert episodes.skipped == 1
    assert found.truncated[t, 2] and not found.terminated[t, 2] and found.start[t + 1, 2]
    assert all(np.isfinite(x).all() for x in (own.reward, own.observation, own.next.observation, own.last.observation))
    (row,) = np.flatnonzero(np.asarray(found.last_time)[:, 2] == t)
    assert not own.last.acting[row, 2].any()
    others = np.arange(ENVS) != 2
    np.testing.assert_array_equal(own.observation[:, others], clean.groups["walkers"].observation[:, others])
    np.testing.assert_array_equal(own.observation[: t + 1, 2], clean.groups["walkers"].observation[: t + 1, 2])
