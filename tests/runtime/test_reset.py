"""Auto-reset touches the environments that are done and no other, however many they are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ludus.runtime.reset import reset_where
from toys import Drift, assert_same

ENV = Drift(agents=2)


@pytest.fixture(scope="module", params=[5, 40], ids=["all at once", "in blocks"])
def block(request):
    """Running environments, the keys of their next episodes, and resets compiled once."""
    envs = request.param
    keys = jax.random.split(jax.random.key(0), 2 * envs)
    running = jax.jit(jax.vmap(ENV.reset))(keys[:envs])
    return envs, keys[envs:], running, jax.jit(lambda done, key, s: reset_where(ENV, done, key, *s))


def done_sets(envs):
    random = np.random.default_rng(0)
    yield from (np.zeros(envs, bool), np.ones(envs, bool), np.arange(envs) == envs - 1)
    yield from (random.random(envs) < share for share in (0.1, 0.5, 0.9))


@pytest.mark.optimised
def test_the_result_is_that_of_resetting_all_and_choosing(block):
    """Oracle: every environment reset, and the done ones selected; equal to the last bit, random keys included."""
    envs, keys, running, reset = block
    fresh = jax.jit(jax.vmap(ENV.reset))(keys)
    for done in done_sets(envs):
        choose = lambda new, old: jnp.where(jnp.asarray(done).reshape(-1, *[1] * (old.ndim - 1)), new, old)
        assert_same(reset(jnp.asarray(done), keys, running), jax.tree.map(choose, fresh, running))
