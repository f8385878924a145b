"""V-trace against published vectors, rlax, its fixed points, and what it must be when nothing is off-policy."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from ludus.learning.returns import Importance, generalised_advantages


def vtrace(*sequences, **more):
    """Of sequences `reward, value, bootstrap, rho` `[time, env]`, one agent each; `(v − V, advantage without ρ)`."""
    return jitted(*(np.asarray(x, np.float32) for x in sequences), **more)


@functools.partial(jax.jit, static_argnames=("trace", "clip"))
def jitted(reward, value, bootstrap, rho, *, discount, trace=1.0, clip=1.0, terminated=None):
    x = lambda a: jnp.asarray(a, jnp.float32)[..., None]
    time, envs = np.shape(reward)
    flags = jnp.zeros((time, envs), bool)
    importance = Importance(jnp.minimum(x(rho), clip), trace * jnp.minimum(x(rho), 1.0))
    known = jnp.ones((time, envs, 1), bool)
    found = generalised_advantages(
        reward=x(reward),
        value=x(value),
        acting=known,
        terminated=flags if terminated is None else jnp.asarray(terminated),
        truncated=flags,
        next_value=x(bootstrap),
        next_known=known[0],
        last_value=jnp.zeros((time, envs, 1)),
        last_known=known,
        discount=x(discount) if np.ndim(discount) else discount,
        trace=trace,
        importance=importance,
    )
    return found.target[..., 0] - jnp.asarray(value), found.advantage[..., 0]


# Two sequences of the vectors that rlax tests itself with, time first.
REWARD = np.array([[-1.3, -1.3, 2.3, 42.0], [1.3, 5.3, -3.3, -5.0]]).T
DISCOUNT = np.array([[0.0, 0.89, 0.85, 0.99], [0.88, 1.0, 0.83, 0.95]]).T
VALUE = np.array([[2.1, 1.1, -3.1, 0.0], [3.1, 0.1, -1.1, 7.4]]).T
RHO = np.array([[0.475151, 22.312224, 0.038761, 3.220699], [95.639175, 0.880906, 1.1e-5, 1.908544]]).T
BOOTSTRAP = np.array([8.4, -1.2])
ERRORS = np.array([[-1.6155143, -3.4973226, 1.8670533, 50.316], [1.4662437, 3.6116405, -8.3327e-5, -13.54]]).T


def test_the_published_errors():
    """Known: the errors of the sequences above."""
    found, _ = vtrace(REWARD, VALUE, BOOTSTRAP, RHO, discount=DISCOUNT)
    np.testing.assert_allclose(found, ERRORS, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("trace", [1.0, 0.9])
def test_it_is_rlax_on_random_sequences(seed, trace):
    """Oracle: rlax, with terminations and weights on both sides of 1."""
    random = np.random.default_rng(seed)
    time = 25
    reward, value, bootstrap = random.normal(size=time), random.normal(size=time), random.normal()
    rho = np.exp(random.normal(size=time))
    terminated = random.random(time) < 0.15
    values = np.append(value[1:], bootstrap)
    discounts = 0.95 * (1 - terminated)
    errors = rlax.vtrace(*(jnp.asarray(x) for x in (value, values, reward, discounts, rho)), lambda_=trace)
    column = lambda x: np.asarray(x)[:, None]
    sequences = column(reward), column(value), [bootstrap], column(rho)
    found, advantage = vtrace(*sequences, discount=0.95, trace=trace, terminated=column(terminated))
    np.testing.assert_allclose(found[:, 0], errors, rtol=1e-4, atol=1e-5)
    following = np.append((value + np.asarray(errors))[1:], bootstrap)
    np.testing.assert_allclose(advantage[:, 0], reward + discounts * following - value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("clip", "value"), [(1.0, 8.3333), (1.5, 8.8235), (1.8, 9.0), (3.0, 9.0)])
def test_values_converge_to_those_of_the_policy_that_the_clip_lets_through(clip, value):
    """Known: a bandit with μ = (½, ½), π = (.9, .1), r = (1, 0), γ = .9, whose values are between those of μ and π."""
    v = 0.0
    for _ in range(400):
        error, _ = vtrace([[1.0, 0.0]], [[v, v]], [v, v], [[1.8, 0.2]], discount=0.9, clip=clip)
        v += float(error.mean())
    np.testing.assert_allclose(v, value, atol=2e-3)


def test_on_policy_it_is_the_n_step_return():
    """Known: with all weights 1, v is the discounted sum of rewards and the bootstrap."""
    reward, value = np.array([[1.0], [0.0], [2.0]]), np.array([[0.5], [1.0], [-0.5]])
    error, advantage = vtrace(reward, value, [0.25], np.ones((3, 1)), discount=0.9)
    returns = [1 + 0.81 * 2 + 0.729 * 0.25, 0.9 * 2 + 0.81 * 0.25, 2 + 0.9 * 0.25]
    np.testing.assert_allclose(error[:, 0] + value[:, 0], returns, rtol=1e-5)
    np.testing.assert_allclose(advantage[:, 0], np.array(returns) - value[:, 0], rtol=1e-5)
