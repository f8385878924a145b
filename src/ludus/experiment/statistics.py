"""Intervals for reports: bootstrap intervals of means and of interquartile means."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy  # its parts are imported when they are used, which takes a while


def mean_interval(x: np.ndarray) -> tuple[float, list[float]]:
    """The mean of a sample and its 95 % interval by Student's t; no width for a single value."""
    mean = float(np.mean(x))
    if len(x) < 2:
        return mean, [mean, mean]
    half = float(scipy.special.stdtrit(len(x) - 1, 0.975) * np.std(x, ddof=1) / np.sqrt(len(x)))
    return mean, [mean - half, mean + half]


def interquartile_mean(x: np.ndarray) -> float:
    """The mean of the middle half (Agarwal et al. 2021)."""
    cut = len(x) // 4
    return float(np.sort(x)[cut : len(x) - cut].mean())


def bootstrap_interval(
    x: np.ndarray, statistic: Callable[[np.ndarray], float] = interquartile_mean, *, draws: int = 2000
) -> list[float]:
    """The 95 % percentile interval of a statistic under resampling; the draws are the same every time."""
    if len(x) < 2:
        return [statistic(x)] * 2
    random = np.random.default_rng(0)
    values = [statistic(random.choice(x, len(x))) for _ in range(draws)]
    return [float(q) for q in np.percentile(values, [2.5, 97.5])]
