"""Action distributions: frequencies, densities and gradients, with and without illegal actions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ludus.networks.distributions import Categorical, Gaussian

LOGITS = jnp.asarray([0.5, -1.0, 2.0, 0.0, -3.0, 1.0])
LEGAL = jnp.asarray([True, False, True, True, True, False])


def repeated(logits, legal, times):
    """So many rows of the same distribution."""
    rows = lambda x: jnp.broadcast_to(jnp.asarray(x), (times, len(x)))
    return Categorical.of(rows(logits), None if legal is None else rows(legal))


def probabilities(logits, legal=None):
    """In numpy, in double precision, over the legal actions."""
    p = np.exp(np.asarray(logits, np.float64)) * (1.0 if legal is None else np.asarray(legal))
    return p / p.sum(-1, keepdims=True)


@pytest.mark.parametrize("legal", [None, LEGAL])
def test_actions_are_drawn_as_often_as_their_probabilities_say(legal):
    """Oracle: a chi-square test of 100,000 draws at one fixed key."""
    expected = probabilities(LOGITS, legal)
    rows = repeated(LOGITS, legal, 100_000)
    counts = np.bincount(np.asarray(rows.sample(jax.random.key(1))), minlength=6)
    possible = expected > 0
    assert not counts[~possible].any()
    assert stats.chisquare(counts[possible], 100_000 * expected[possible]).pvalue > 0.01


@pytest.mark.parametrize(
    "logits",
    [
        [80.0, 0.0, -80.0, 3.0, -200.0, 200.0],
        [0.0, 1e30, -1e30, 0.0, 0.0, 1e30],
        [-1e38, 1e38, -1e38, -1e38, -1e38, 1e38],
    ],
)
def test_no_illegal_action_is_ever_drawn_however_the_logits_stand(logits):
    """Oracle: the mask, over 100,000 draws."""
    rows = repeated(logits, LEGAL, 100_000)
    drawn = np.asarray(rows.sample(jax.random.key(2)))
    assert np.asarray(LEGAL)[drawn].all()
    assert np.asarray(LEGAL)[rows.mode()].all()


@pytest.mark.parametrize("actions", [9, 362, 4672])
def test_rounding_in_large_action_spaces_leaves_no_chance_to_illegal_actions(actions, monkeypatch):
    """Oracle: the mask, for uniform numbers put next to every edge between two actions, where rounding decides."""
    random = np.random.default_rng(0)
    logits = random.normal(size=actions).astype(np.float32)
    legal = random.random(actions) < (0.5 if actions < 1000 else 0.02)
    one = Categorical.of(jnp.asarray(logits), jnp.asarray(legal))
    edges = np.cumsum(np.exp(np.asarray(one.log_probs, np.float64)))
    edges = random.choice(edges[~legal], min(300, (~legal).sum()), replace=False)
    near = np.round(edges[:, None] * 2**23) + np.arange(-12, 13)  # uniform numbers are multiples of 2⁻²³
    uniform = np.clip(near.reshape(-1, 1) / 2**23, 0, 1 - 2.0**-23).astype(np.float32)
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.asarray(uniform).reshape(shape))
    drawn = np.asarray(repeated(logits, legal, len(uniform)).sample(jax.random.key(0)))
    assert legal[drawn].all()


def test_log_probabilities_and_entropy_are_those_of_the_legal_actions():
    """Oracle: numpy in double precision."""
    for legal in (None, LEGAL):
        expected, found = probabilities(LOGITS, legal), Categorical.of(LOGITS, legal)
        possible = np.flatnonzero(expected)
        np.testing.assert_allclose(found.log_prob(jnp.asarray(possible)), np.log(expected[possible]), rtol=1e-5)
        np.testing.assert_allclose(found.entropy(), stats.entropy(expected), rtol=1e-5)


def test_the_mode_is_the_most_likely_legal_action():
    """Oracle: argmax over the legal logits."""
    assert Categorical.of(LOGITS, None).mode() == 2
    assert Categorical.of(LOGITS, jnp.asarray([True, True, False, True, False, False])).mode() == 0


def test_gradients_with_masks_are_finite_and_leave_illegal_logits_alone():
    """Oracle: an illegal logit has no influence, hence gradient 0."""
    logits = jnp.asarray([[0.0, 1e4, -1e4, 5.0, 0.0, 1e30]])

    def loss(logits):
        distribution = Categorical.of(logits, LEGAL[None])
        return (distribution.log_prob(jnp.asarray([3])) + distribution.entropy()).sum()

    gradient = np.asarray(jax.grad(loss)(logits))
    assert np.isfinite(gradient).all() and not gradient[:, ~np.asarray(LEGAL)].any()


def test_a_gaussian_has_the_density_and_entropy_of_independent_normals():
    """Oracle: scipy.stats.norm."""
    random = np.random.default_rng(0)
    mean, log_std, action = (random.normal(size=(7, 3)).astype(np.float32) for _ in range(3))
    found, expected = Gaussian(jnp.asarray(mean), jnp.asarray(log_std)), stats.norm(mean, np.exp(log_std))
    np.testing.assert_allclose(found.log_prob(jnp.asarray(action)), expected.logpdf(action).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(found.entropy(), expected.entropy().sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(found.mode(), mean)


def test_gaussian_draws_follow_it():
    """Oracle: a Kolmogorov–Smirnov test of 20,000 draws at one fixed key."""
    rows = Gaussian(jnp.full((20_000, 1), 2.0), jnp.full((20_000, 1), -1.0))
    drawn = np.asarray(rows.sample(jax.random.key(3)))[:, 0]
    assert stats.kstest(drawn, stats.norm(2.0, np.exp(-1.0)).cdf).pvalue > 0.01
