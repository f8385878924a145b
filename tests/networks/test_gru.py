"""The GRU against flax's cell with the same weights, and its own backward pass against automatic differentiation."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ludus.networks.gru import GRU

TIME, BATCH, INPUTS, SIZE = 9, 4, 3, 5


def example(seed=0):
    """A GRU with nothing at zero, inputs, initial memory and resets."""
    keys = jax.random.split(jax.random.key(seed), 5)
    gru = GRU.init(INPUTS, SIZE, key=keys[0])
    leaves, structure = jax.tree.flatten(gru)
    shake = jax.random.split(keys[1], len(leaves))
    shaken = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, shake, strict=True)]
    x = jax.random.normal(keys[2], (TIME, BATCH, INPUTS))
    h = jax.random.normal(keys[3], (BATCH, SIZE))
    return jax.tree.unflatten(structure, shaken), x, h, jax.random.bernoulli(keys[4], 0.25, (TIME, BATCH))


def step_by_step(gru, x, h, start):
    """The same computation in a plain loop that JAX differentiates by itself."""
    outputs = []
    for t in range(x.shape[0]):
        h = gru.step(x[t], jnp.where(start[t][:, None], 0.0, h))
        outputs.append(h)
    return jnp.stack(outputs)


def test_one_step_is_that_of_flax():
    """Oracle: flax.linen.GRUCell given the same weights."""
    gru, x, h, _ = example()
    gates = lambda w: jnp.split(w, 3, axis=-1)
    parameters = {
        name: {"kernel": kernel, "bias": bias}
        for name, kernel, bias in zip(("ir", "iz", "in"), gates(gru.inputs.weight), gates(gru.inputs.bias), strict=True)
    }
    for name, kernel in zip(("hr", "hz", "hn"), gates(gru.recurrent), strict=True):
        parameters[name] = {"kernel": kernel}
    parameters["hn"]["bias"] = gru.bias
    expected, _ = nn.GRUCell(SIZE).apply({"params": parameters}, h, x[0])
    np.testing.assert_allclose(gru.step(x[0], h), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_unrolling_is_stepping(seed):
    """Oracle: `step` in a loop, with memory set to zero where an episode starts."""
    gru, x, h, start = example(seed)
    np.testing.assert_allclose(gru.unroll(x, h, start), step_by_step(gru, x, h, start), rtol=1e-5, atol=1e-6)


def test_what_came_before_a_start_does_not_matter():
    """Oracle: the definition of a reset; equality is exact."""
    gru, x, h, start = example()
    start = start.at[4].set(True)
    other = gru.unroll(x.at[:4].add(1.0), h + 1.0, start)
    np.testing.assert_array_equal(gru.unroll(x, h, start)[4:], other[4:])


@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_those_of_automatic_differentiation(seed):
    """Oracle: JAX's own gradients of the plain loop, for weights, biases, inputs and initial memory."""
    gru, x, h, start = example(seed)
    target = jax.random.normal(jax.random.key(seed + 100), (TIME, BATCH, SIZE))

    def loss(unroll):
        return lambda gru, x, h: jnp.sum(target * unroll(gru, x, h, start) ** 2)

    by_hand = jax.jit(jax.grad(loss(GRU.unroll), (0, 1, 2)))(gru, x, h)
    automatic = jax.jit(jax.grad(loss(step_by_step), (0, 1, 2)))(gru, x, h)
    for found, expected in zip(jax.tree.leaves(by_hand), jax.tree.leaves(automatic), strict=True):
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_any_axes_may_stand_between_time_and_features():
    """Oracle: the same rows with one axis; agents of environments are nothing but more rows."""
    gru, x, h, start = example()
    split = lambda a, axis: a.reshape(*a.shape[:axis], 2, 2, *a.shape[axis + 1 :])
    folded = gru.unroll(split(x, 1), split(h, 0), split(start, 1))
    np.testing.assert_array_equal(folded.reshape(TIME, BATCH, SIZE), gru.unroll(x, h, start))
