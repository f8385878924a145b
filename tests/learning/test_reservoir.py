"""Reservoirs against what they promise: everything ever offered is kept with the same probability."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from ludus.learning.reservoir import Reservoir


def filled(items, envs, slots, seed=0):
    offer = lambda reservoir, n: (reservoir.push(jnp.full(envs, n), jax.random.fold_in(jax.random.key(seed), n)), None)
    empty = Reservoir.empty(jnp.zeros((), jnp.int32), envs, slots)
    return jax.lax.scan(offer, empty, jnp.arange(items))[0]


def test_every_item_is_kept_alike():
    """Chi-square over 2,000 independent reservoirs of 8 slots that were offered 40 items each."""
    kept = np.asarray(filled(40, 2_000, 8).items)
    counts = np.bincount(kept.reshape(-1), minlength=40)
    assert counts.sum() == 16_000
    assert stats.chisquare(counts).pvalue > 1e-3
    for row in kept[:50]:
        assert len(set(row)) == 8  # nothing is kept twice


def test_a_reservoir_keeps_everything_while_there_is_room():
    np.testing.assert_array_equal(filled(5, 3, 8).items[:, :5], np.tile(np.arange(5), (3, 1)))
    np.testing.assert_array_equal(filled(5, 3, 8).filled, [5, 5, 5])


def test_samples_are_uniform_over_what_is_kept():
    reservoir = filled(5, 4, 8)  # slots 5 to 7 are empty
    drawn = np.asarray(reservoir.sample(4_000, jax.random.key(1)))
    counts = np.bincount(drawn, minlength=5)
    assert counts.shape == (5,) and stats.chisquare(counts).pvalue > 1e-3


def test_environments_that_offer_nothing_keep_what_they_have_and_samples_are_uniform_over_what_is_kept():
    """Environment 0 is offered 12 items, environment 1 four, environment 2 none."""
    reservoir = Reservoir.empty(jax.ShapeDtypeStruct((), jnp.int32), 3, 20)
    for k in range(12):
        offered = jnp.array([True, k < 4, False])
        reservoir = reservoir.push(jnp.array([k, 100 + k, 200]), jax.random.key(k), offered)
    np.testing.assert_array_equal(reservoir.filled, [12, 4, 0])
    drawn = np.concatenate([np.asarray(reservoir.sample(64, jax.random.key(k))) for k in range(200)])
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(values, [*range(12), *range(100, 104)])
    assert stats.chisquare(counts).pvalue > 1e-3
