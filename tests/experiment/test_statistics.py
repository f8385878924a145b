"""Intervals and interquartile means, by hand and by repeated sampling."""

from __future__ import annotations

import numpy as np
import pytest

from ludus.experiment.statistics import bootstrap_interval, interquartile_mean, mean_interval


def test_the_interquartile_mean_leaves_out_the_lowest_and_highest_quarter():
    """Oracle: by hand, whatever the order and however wild the ends."""
    assert interquartile_mean(np.asarray([8.0, 1, 2, 3, 4, 5, 6, 7])) == 4.5
    assert interquartile_mean(np.asarray([-1e9, 1, 2, 1e9])) == 1.5
    assert interquartile_mean(np.asarray([3.0])) == 3.0


def test_the_interval_of_a_mean_is_students():
    """Oracle: t₀.₉₇₅ with 3 degrees of freedom is 3.18245; deviation √(5/3), four values."""
    mean, (low, high) = mean_interval(np.asarray([1.0, 2.0, 3.0, 4.0]))
    half = 3.182446305 * np.sqrt(5 / 3) / 2
    assert mean == 2.5
    np.testing.assert_allclose([low, high], [2.5 - half, 2.5 + half], rtol=1e-8)


def test_a_single_value_has_an_interval_without_width():
    assert mean_interval(np.asarray([2.0])) == (2.0, [2.0, 2.0])
    assert bootstrap_interval(np.asarray([2.0])) == [2.0, 2.0]


def test_the_interval_covers_the_mean_as_often_as_it_says():
    """Oracle: 500 samples of a known distribution; 95 % within four standard deviations of the count."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(500):
        _, (low, high) = mean_interval(random.normal(3.0, 2.0, 10))
        covered += low <= 3.0 <= high
    assert abs(covered - 475) < 4 * np.sqrt(500 * 0.95 * 0.05)


@pytest.mark.parametrize("statistic", [interquartile_mean, np.mean])
def test_the_bootstrap_interval_is_the_same_every_time_and_about_normal_for_large_samples(statistic):
    """Oracle: the normal interval of a mean, 1.96 deviations; the interquartile mean of normals is a little wider."""
    x = np.random.default_rng(1).normal(0.0, 1.0, 400)
    low, high = bootstrap_interval(x, statistic)
    assert [low, high] == bootstrap_interval(x, statistic)
    assert low < statistic(x) < high
    assert 0.85 < (high - low) / (2 * 1.96 / 20) < 1.35
