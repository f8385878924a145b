"""Evaluation plays every environment's episode once, to its end, the same whatever else is played."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from ludus.networks.simple import RandomPolicy
from ludus.runtime import evaluate
from ludus.runtime.evaluate import Evaluator
from ludus.runtime.rollout import init_actors
from toys import Always, Drift, Turns, drift_by_hand

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def evaluator():
    return Evaluator(Drift(agents=2, horizon=7, noise=0.05))


def random_play(env):
    return {group.name: RandomPolicy(group) for group in env.spec.groups}


def test_returns_and_lengths_are_those_of_one_episode_by_hand():
    """Oracle: the game in numpy, from the places where the episodes begin, for a policy that always goes right."""
    env, policies = Drift(agents=2, horizon=5), {"walkers": Always(2)}
    results = Evaluator(env)(policies, 12, KEY, explore=False)
    begun = np.asarray(init_actors(env, policies, jax.random.split(KEY, 12)).env.place)
    for e in range(12):
        place, total, time, over = begun[e], np.zeros(2), 0, False
        while not over:
            place, terminated, truncated = drift_by_hand(place, time, np.full(2, 2), 5)
            total, time, over = total + place, time + 1, terminated or truncated
        assert results.length[e] == time and results.finished[e]
        np.testing.assert_allclose(results.returns["walkers"][e], total, rtol=1e-5, atol=1e-5)
    assert len(set(results.length)) > 1


def test_an_episode_depends_on_the_key_and_its_number_alone(evaluator, monkeypatch):
    """Oracle: 12 episodes at once; 5 of them, and 12 in padded batches of 5, are the same to the last bit."""
    policies = random_play(evaluator.env)
    whole = evaluator(policies, 12, KEY, explore=True)
    few = evaluator(policies, 5, KEY, explore=True)
    np.testing.assert_array_equal(few.returns["walkers"], whole.returns["walkers"][:5])
    monkeypatch.setattr(evaluate, "BATCH", 5)
    parts = evaluator(policies, 12, KEY, explore=True)
    np.testing.assert_array_equal(parts.returns["walkers"], whole.returns["walkers"])
    np.testing.assert_array_equal(parts.length, whole.length)
    other = evaluator(policies, 12, jax.random.key(1), explore=True)
    assert not np.array_equal(other.returns["walkers"], whole.returns["walkers"])


def test_in_games_of_turns_each_agent_has_its_own_return():
    """Oracle: action 0 pays the mover −1 and the other b, so that moves m₀ + m₁ = 5 pay −m₀ + m₁ b and −m₁ + m₀ b."""
    results = Evaluator(Turns(length=5))({"players": Always(0)}, 9, KEY, explore=True)
    np.testing.assert_array_equal(results.length, np.full(9, 5))
    first, second = results.returns["players"].T
    b = (first + second) / 5 + 1
    moves = np.round((b * 5 - first) / (1 + b))
    assert ((b >= 0) & (b <= 1)).all() and len(set(moves)) > 1
    np.testing.assert_allclose(first, -moves + (5 - moves) * b, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(second, -(5 - moves) + moves * b, rtol=1e-4, atol=1e-4)


def test_an_episode_that_does_not_end_is_given_up(monkeypatch):
    env = Drift(agents=1, horizon=10**6, out=False)
    env.spec = replace(env.spec, horizon=None)
    monkeypatch.setattr(evaluate, "ENDLESS", 30)
    results = Evaluator(env)(random_play(env), 3, KEY, explore=True)
    assert not results.finished.any() and (results.length == 30).all()
