"""Where a rollout is not finite is found by group, step and environment, also behind auto-reset."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ludus.networks.simple import RandomPolicy
from ludus.runtime.finite import CLEAN, first_bad
from ludus.runtime.rollout import collect, init_actors
from toys import Drift

ENVS, LENGTH, HORIZON = 6, 9, 4
ENV = Drift(agents=3, horizon=HORIZON, teams=True, out=False)


@pytest.fixture(scope="module")
def rollout():
    """Two groups, a global state, and two truncations of every environment."""
    policies = {group.name: RandomPolicy(group) for group in ENV.spec.groups}
    keys = jax.random.split(jax.random.key(0), ENVS)
    found = jax.jit(lambda k: collect(ENV, policies, init_actors(ENV, policies, k), LENGTH)[1])(keys)
    return eqx.tree_at(lambda r: r.state, found, jnp.zeros((LENGTH, ENVS, 2)), is_leaf=lambda x: x is None)


def bad(rollout):
    """Step and environment by group, where not all is finite."""
    return {name: divmod(int(x), ENVS) for name, x in first_bad(rollout, ENVS).items() if x != CLEAN}


def spoiled(rollout, pick, place, value):
    """The rollout with one number replaced."""
    return eqx.tree_at(pick, rollout, pick(rollout).at[place].set(value))


def test_nothing_is_found_where_everything_is_finite(rollout):
    assert bad(rollout) == {}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rewards_and_observations_are_told_by_their_group(rollout, value):
    found = spoiled(rollout, lambda r: r.groups["right"].reward, (3, 4, 0), value)
    found = spoiled(found, lambda r: r.groups["left"].observation, (7, 2, 1, 2), value)
    assert bad(found) == {"right": (3, 4), "left": (7, 2)}


def test_the_first_of_several_is_told(rollout):
    """Oracle: the earliest step, and of that step the first environment."""
    for place in ((5, 0, 0), (2, 5, 0), (2, 3, 0)):
        rollout = spoiled(rollout, lambda r: r.groups["right"].reward, place, np.nan)
    assert bad(rollout) == {"right": (2, 3)}


def test_the_last_observation_of_a_truncated_episode_counts_after_its_last_step(rollout):
    """Oracle: the second truncation of environment 1, after twice `HORIZON` steps; critics bootstrap from it."""
    found = spoiled(rollout, lambda r: r.groups["left"].last.observation, (1, 1, 0, 0), np.nan)
    assert bad(found) == {"left": (2 * HORIZON, 1)}


def test_the_observation_that_follows_the_rollout_counts_after_its_last_step(rollout):
    found = spoiled(rollout, lambda r: r.groups["right"].next.observation, (4, 0, 0), np.nan)
    assert bad(found) == {"right": (LENGTH, 4)}


def test_the_global_state_of_central_critics_counts_for_every_group(rollout):
    assert bad(spoiled(rollout, lambda r: r.state, (6, 5, 1), np.nan)) == {"left": (6, 5), "right": (6, 5)}
