"""Masked statistics and the value normaliser, against numpy on the masked entries alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ludus.core.sharding import ENV_AXIS
from ludus.learning.statistics import ValueNormaliser, masked_moments, share_of_mean, standardise


def sample(seed=0, shape=(4, 6)):
    random = np.random.default_rng(seed)
    return random.normal(3.0, 2.0, shape).astype(np.float32), random.random(shape) < 0.6


def test_moments_count_only_masked_entries():
    """Oracle: numpy's mean and variance of the selected entries; the others are NaN."""
    x, mask = sample()
    mean, variance = masked_moments(jnp.asarray(np.where(mask, x, np.nan)), jnp.asarray(mask))
    np.testing.assert_allclose(mean, x[mask].mean(), rtol=1e-5)
    np.testing.assert_allclose(variance, x[mask].var(), rtol=1e-5)


def test_standardised_entries_have_mean_zero_and_deviation_one_and_the_rest_is_zero():
    """Oracle: numpy's mean and deviation of the result."""
    x, mask = sample(1)
    z = np.asarray(standardise(jnp.asarray(x), jnp.asarray(mask)))
    assert abs(z[mask].mean()) < 1e-6 and abs(z[mask].std() - 1) < 1e-5
    assert not z[~mask].any()


def test_nothing_masked_gives_zeros_and_no_nan():
    x, _ = sample(2)
    none = jnp.zeros(x.shape, bool)
    assert share_of_mean(jnp.asarray(x), none) == 0
    assert not np.asarray(standardise(jnp.asarray(x), none)).any()


def test_shares_of_the_mean_add_up_over_shards():
    """Oracle: the unsharded result, with the environment axis split into shards of unequal counts."""
    x, mask = (jnp.asarray(a) for a in sample(3, (6, 4)))
    parts = jax.vmap(share_of_mean, axis_name=ENV_AXIS)(x, mask)
    np.testing.assert_allclose(parts.sum(), share_of_mean(x, mask), rtol=1e-6)
    sharded = jax.vmap(standardise, axis_name=ENV_AXIS)(x, mask)
    np.testing.assert_allclose(sharded, standardise(x, mask), rtol=1e-4, atol=1e-6)


def test_a_fresh_normaliser_changes_nothing():
    x, _ = sample(4)
    fresh = ValueNormaliser.fresh()
    np.testing.assert_array_equal(fresh.normalise(jnp.asarray(x)), x)
    np.testing.assert_array_equal(fresh.restore(jnp.asarray(x)), x)


def test_one_batch_is_normalised_by_its_own_moments():
    """Oracle: debiasing makes the average of one batch that batch's mean and deviation."""
    x, mask = sample(5)
    normaliser = ValueNormaliser.fresh().update(jnp.asarray(x), jnp.asarray(mask))
    z = np.asarray(normaliser.normalise(jnp.asarray(x)))[mask]
    assert abs(z.mean()) < 1e-4 and abs(z.std() - 1) < 1e-4


def test_moments_are_debiased_exponential_averages():
    """Oracle: weights decay^(n − i) in numpy, for mean and mean of squares."""
    normaliser, decay, means, squares = ValueNormaliser.fresh(), 0.99, [], []
    for seed in range(4):
        x, mask = sample(seed)
        x = x * (seed + 1)
        normaliser = normaliser.update(jnp.asarray(x), jnp.asarray(mask))
        means.append(x[mask].mean())
        squares.append(np.square(x[mask]).mean())
    weights = decay ** np.arange(4)[::-1]
    mean, square = (np.average(v, weights=weights) for v in (means, squares))
    expected = (np.asarray([0.0, 5.0]) - mean) / np.sqrt(square - mean**2)
    np.testing.assert_allclose(normaliser.normalise(jnp.asarray([0.0, 5.0])), expected, rtol=1e-3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_restore_undoes_normalise(scale):
    x, mask = sample(6)
    normaliser = ValueNormaliser.fresh().update(jnp.asarray(x * scale), jnp.asarray(mask))
    there_and_back = normaliser.restore(normaliser.normalise(jnp.asarray(x * scale)))
    np.testing.assert_allclose(there_and_back, x * scale, rtol=1e-4)
