"""Generalised advantages against hand-computed numbers, rlax, and a Python loop that follows the rule word by word."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from ludus.learning.returns import generalised_advantages

DISCOUNT, TRACE = 0.9, 0.8


@functools.partial(jax.jit, static_argnums=(0, 1))
def estimate(discount, trace, fields):
    return generalised_advantages(**fields, discount=discount, trace=trace)


def experience(reward, value, *, acting=None, terminated=None, truncated=None, bootstrap=0.0, last=None, **known):
    """Arrays `[time, env, agent]` with nothing special happening unless said."""
    reward = jnp.asarray(reward, jnp.float32)
    time, envs, agents = reward.shape
    flags = lambda x: jnp.zeros((time, envs), bool) if x is None else jnp.asarray(x)
    return {
        "reward": reward,
        "value": jnp.asarray(value, jnp.float32),
        "acting": jnp.ones(reward.shape, bool) if acting is None else jnp.asarray(acting),
        "terminated": flags(terminated),
        "truncated": flags(truncated),
        "next_value": jnp.broadcast_to(jnp.asarray(bootstrap, jnp.float32), (envs, agents)),
        "next_known": jnp.asarray(known.get("next_known", np.ones((envs, agents), bool))),
        "last_value": jnp.zeros(reward.shape) if last is None else jnp.asarray(last, jnp.float32),
        "last_known": jnp.asarray(known.get("last_known", np.ones(reward.shape, bool))),
    }


def single(rows):
    """One environment with one agent."""
    return np.asarray(rows, np.float32)[:, None, None]


def test_the_worked_example():
    """Oracle: computed by hand, r = (1, 0, 2), V = (.5, 1, −.5), bootstrap .25, γ = .9, λ = .8."""
    found = estimate(0.9, 0.8, experience(single([1, 0, 2]), single([0.5, 1, -0.5]), bootstrap=0.25))
    np.testing.assert_allclose(found.advantage[:, 0, 0], [1.76864, 0.512, 2.725], rtol=1e-6)
    np.testing.assert_allclose(found.target[:, 0, 0], [2.26864, 1.512, 2.225], rtol=1e-6)
    assert found.valid.all()


@pytest.mark.parametrize("seed", range(3))
def test_one_agent_that_always_acts_gets_what_rlax_computes(seed):
    """Oracle: rlax, on sequences with random terminations."""
    random = np.random.default_rng(seed)
    reward, value, bootstrap = random.normal(size=30), random.normal(size=30), random.normal()
    terminated = random.random(30) < 0.15
    found = estimate(
        DISCOUNT, TRACE, experience(single(reward), single(value), terminated=terminated[:, None], bootstrap=bootstrap)
    )
    expected = rlax.truncated_generalized_advantage_estimation(
        jnp.asarray(reward), jnp.asarray(DISCOUNT * ~terminated), TRACE, jnp.asarray([*value, bootstrap])
    )
    np.testing.assert_allclose(found.advantage[:, 0, 0], expected, rtol=1e-5, atol=1e-5)


def test_termination_bootstraps_nothing_and_truncation_the_true_last_value():
    """Oracle: δ of one step by hand; the other episode's rewards and values must not matter."""
    ends = np.asarray([[False], [True], [False]])
    value, last = single([0.5, 1.0, 7.0]), single([0.0, 3.0, 0.0])
    for kind, bootstrap in (("terminated", 0.0), ("truncated", 3.0)):
        found = estimate(0.9, 0.8, experience(single([1, 2, 50]), value, last=last, bootstrap=9.0, **{kind: ends}))
        second = 2 + 0.9 * bootstrap - 1.0
        first = 1 + 0.9 * 1.0 - 0.5 + 0.9 * 0.8 * second
        np.testing.assert_allclose(found.advantage[:2, 0, 0], [first, second], rtol=1e-6)


def test_an_episode_that_terminates_at_its_time_limit_has_no_future():
    """Oracle: δ by hand with value 0 after the step."""
    both = np.asarray([[True]])
    found = estimate(0.9, 0.8, experience([[[1.0]]], [[[0.5]]], terminated=both, truncated=both, last=[[[9.0]]]))
    np.testing.assert_allclose(found.advantage[0, 0, 0], 0.5, rtol=1e-6)


def episodes_of(terminated, truncated):
    """First and last step of each episode's part of the rollout."""
    begin = 0
    for t in range(len(terminated)):
        if terminated[t] or truncated[t] or t == len(terminated) - 1:
            yield begin, t
            begin = t + 1


def by_hand(x, env, agent, discount, trace):
    """The module's rule for one agent: advantage by acting step; steps without one are left out."""
    reward, value, acting = (np.asarray(x[k])[:, env, agent] for k in ("reward", "value", "acting"))
    terminated, truncated = (np.asarray(x[k])[:, env] for k in ("terminated", "truncated"))
    found = {}
    for begin, end in episodes_of(terminated, truncated):
        if terminated[end]:
            future, known = 0.0, True
        elif truncated[end]:
            future, known = x["last_value"][end, env, agent], x["last_known"][end, env, agent]
        else:
            future, known = x["next_value"][env, agent], x["next_known"][env, agent]
        steps = [t for t in range(begin, end + 1) if acting[t]]
        values = [*value[steps], float(future)]
        edges = [*steps, end + 1]
        gains = [sum(reward[a:b]) for a, b in itertools.pairwise(edges)]
        if not known and steps:  # the last acting step is the bootstrap
            steps, values, gains = steps[:-1], values[:-1], gains[:-1]
        errors = [gains[i] + discount * values[i + 1] - values[i] for i in range(len(steps))]
        for i, t in enumerate(steps):
            found[t] = sum((discount * trace) ** (j - i) * errors[j] for j in range(i, len(steps)))
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("acts", [0.3, 0.9])
def test_every_agent_has_advantages_over_its_own_acting_steps(seed, acts):
    """Oracle: a Python loop over each agent's acting steps; ends, masks and unknown futures are random."""
    random = np.random.default_rng(seed)
    shape = (time, envs, agents) = (24, 5, 3)
    x = experience(
        random.normal(size=shape),
        random.normal(size=shape),
        acting=random.random(shape) < acts,
        terminated=random.random((time, envs)) < 0.1,
        truncated=random.random((time, envs)) < 0.1,
        bootstrap=random.normal(size=(envs, agents)),
        last=random.normal(size=shape),
        next_known=random.random((envs, agents)) < 0.5,
        last_known=random.random(shape) < 0.5,
    )
    found = estimate(DISCOUNT, TRACE, x)
    for env in range(envs):
        for agent in range(agents):
            expected = by_hand(x, env, agent, DISCOUNT, TRACE)
            assert set(np.flatnonzero(found.valid[:, env, agent])) == set(expected)
            for t, advantage in expected.items():
                np.testing.assert_allclose(found.advantage[t, env, agent], advantage, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.advantage[~found.valid], 0.0)
    np.testing.assert_array_equal(found.target[~found.valid], 0.0)


def test_in_a_game_of_turns_rewards_between_an_agents_moves_belong_to_its_earlier_move():
    """Oracle: two players in turn, every step pays both; with value 0 and λ = 0 the advantage is what it received."""
    acting = np.asarray([[[True, False]], [[False, True]], [[True, False]], [[False, True]]])
    reward = np.asarray([[[1, 10]], [[2, 20]], [[4, 40]], [[8, 80]]])
    ends = np.asarray([[False], [False], [False], [True]])
    found = estimate(0.9, 0.0, experience(reward, np.zeros(reward.shape), acting=acting, terminated=ends))
    np.testing.assert_array_equal(found.advantage[:, 0, 0], [1 + 2, 0, 4 + 8, 0])
    np.testing.assert_array_equal(found.advantage[:, 0, 1], [0, 20 + 40, 0, 80])  # the 10 came before its first move
    np.testing.assert_array_equal(found.valid[:, 0], acting[:, 0])


def test_trace_one_gives_monte_carlo_returns():
    """Oracle: discounted sums of rewards to the end of the episode."""
    random = np.random.default_rng(0)
    reward, ends = random.normal(size=20), np.arange(20) % 7 == 6
    ends[-1] = True
    found = estimate(0.9, 1.0, experience(single(reward), single(random.normal(size=20)), terminated=ends[:, None]))
    for begin, end in episodes_of(ends, ends):
        for t in range(begin, end + 1):
            expected = sum(0.9 ** (s - t) * reward[s] for s in range(t, end + 1))
            np.testing.assert_allclose(found.target[t, 0, 0], expected, rtol=1e-4, atol=1e-5)
