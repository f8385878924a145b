"""IMPALA, APPO and A3C: what they are on-policy, what old experience does to them, and A3C's two halves."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ludus.algorithms.policy_gradient.a2c import A2C
from ludus.algorithms.policy_gradient.a3c import A3C
from ludus.algorithms.policy_gradient.appo import APPO
from ludus.algorithms.policy_gradient.impala import IMPALA
from ludus.networks.torso import Network
from toys import Drift, Turns, assert_close, assert_same, play

SMALL = Network(hidden=(8,))
GAMES = [Drift(agents=2), Drift(agents=3, teams=True, masked=True), Turns(truncates=True)]


def update(algorithm, learner, rollout):
    return jax.jit(lambda a, r: algorithm.update(a, r, key=jax.random.key(1)))(learner, rollout)


@pytest.mark.parametrize("env", GAMES, ids=["drift", "teams", "turns"])
def test_impala_on_its_own_experience_is_a2c(env):
    """Invariance: all weights are 1."""
    impala = IMPALA(rollout_length=9, network=SMALL)
    learner, rollout = play(impala, env)
    shared = {f.name: getattr(impala, f.name) for f in dataclasses.fields(A2C)}
    ours, theirs = update(impala, learner, rollout), update(A2C(**shared), learner, rollout)
    assert_close(ours, theirs, 2e-5)


def older(rollout, shift):
    """The same rollout as if chosen by a policy for which every action was e^shift times as probable."""
    at = lambda r: [g.log_prob for g in r.groups.values()]
    return eqx.tree_at(at, rollout, [x + shift for x in at(rollout)])


@pytest.mark.parametrize("kind", [IMPALA, APPO])
def test_how_probable_actions_were_changes_what_is_learned(kind):
    """Where μ was twice π, steps count half; where it was half, they count no more than once."""
    algorithm = kind(rollout_length=8, network=SMALL, minibatches=1) if kind is APPO else kind(8, network=SMALL)
    algorithm = dataclasses.replace(algorithm, rollout_length=8)
    learner, rollout = play(algorithm, Drift(agents=2))
    same, twice, half = (
        update(algorithm, learner, older(rollout, shift))[1] for shift in (0.0, np.log(2.0), -np.log(2.0))
    )
    loss = "walkers/value_loss"
    assert not np.isclose(same[loss], twice[loss], rtol=1e-3)
    np.testing.assert_allclose(same[loss], half[loss], rtol=1e-4)  # ρ̄ = 1 cuts off what is above 1


@pytest.mark.optimised
@pytest.mark.parametrize("parameters", ["shared", "independent"])
@pytest.mark.parametrize("optimiser", ["adam", "rmsprop"])
def test_a3cs_halves_make_a2cs_update(parameters, optimiser):
    """Oracle: A2C; with one worker nothing happens between the halves, to the last bit."""
    given = {"rollout_length": 9, "network": SMALL, "parameters": parameters, "optimiser": optimiser}
    a3c, a2c = A3C(**given), A2C(**given)
    learner, rollout = play(a2c, Drift(agents=2))
    gradients = jax.jit(lambda a, r: a3c.gradients(a, r, key=jax.random.key(1))[0])
    apply = jax.jit(lambda a, g: a3c.apply(a, g, rollout.progress))
    ours, theirs = learner, learner
    for _ in range(3):
        ours = apply(ours, gradients(ours, rollout))
        theirs = update(a2c, theirs, rollout)[0]
    assert_same(ours, theirs)


def test_a3c_applies_old_gradients_to_new_parameters():
    """Oracle: the same gradients put through the optimiser by hand."""
    a3c = A3C(rollout_length=9, network=SMALL, optimiser="rmsprop")
    learner, rollout = play(a3c, Drift(agents=2))
    found = a3c.gradients(learner, rollout, key=jax.random.key(1))[0]
    moved = jax.tree.map(lambda x: x + 0.5 if jnp.issubdtype(x.dtype, jnp.floating) else x, learner)
    after = a3c.apply(moved, found, rollout.progress).shared["groups"]["walkers"]
    old, gradients = moved.shared["groups"]["walkers"], found.shared["groups"]["walkers"].models
    updates, state = a3c._optimiser().update(gradients, old.optimiser)
    expected = jax.tree.map(lambda p, u: p - a3c.learning_rate * u, old.models, updates)
    assert_close(after.models, expected, 1e-6)
    assert_close(after.optimiser, state, 1e-6)


@pytest.mark.optimised
@pytest.mark.parametrize("workers", [1, 3])
def test_a3c_with_one_worker_is_a2c_to_the_last_bit_and_with_more_nothing_is_lost(workers):
    """Oracle: A2C's updates on the rollouts of the same sampler, one after the other. More workers apply as many
    gradients, each computed at parameters at most a few gradients old."""
    from ludus.runtime.asynchronous import AsyncProgram
    from ludus.runtime.sampler import sampler_for

    a3c = A3C(rollout_length=8, network=SMALL, anneal=False)
    env, envs, calls = Drift(agents=2), 6, 3
    program = AsyncProgram(a3c, env, envs, calls * 2048, workers)
    state = program.init(0)
    call = program.compile(state)
    learner = jax.tree.map(lambda x: x[0], state.learner)
    for _ in range(calls):
        state, report = call(state)
    gradients = calls * program.iterations_per_call * workers
    assert program.lag.total() == gradients and max(program.lag) < 8 * workers
    assert float(report.episodes.count[0]) > 0
    if workers > 1:
        return
    assert set(program.lag) == {0}
    sampler = sampler_for(env, envs, 8, 0, "stop", learns=("walkers",))
    key = jax.random.split(jax.random.key(0), 3)[2]
    step = jax.jit(lambda a, r, k: A2C.update(a3c, a, r, key=k)[0])
    total = program.calls * program.iterations_per_call
    for c in range(calls):
        key, own = jax.random.split(key)
        for turn in range(program.iterations_per_call):
            progress = (c * program.iterations_per_call + turn) / total
            rollout = sampler.sample(a3c.policy(learner), progress)[0]
            learner = step(learner, rollout, jax.random.fold_in(jax.random.fold_in(own, 0), turn))
    assert_same(jax.tree.map(lambda x: x[0], state.learner), learner)
