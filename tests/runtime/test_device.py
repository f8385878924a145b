"""The device program: the same learning however environments and seeds are laid out, and a word for what goes wrong."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ludus.algorithms.policy_gradient.mappo import MAPPO
from ludus.algorithms.policy_gradient.ppo import PPO
from ludus.core.errors import UsageError
from ludus.envs.registry import make
from ludus.networks.torso import Network
from ludus.runtime import device
from ludus.runtime.device import Program
from ludus.runtime.finite import CLEAN
from toys import Drift, Spoiled, assert_close, assert_same, numpy_tree

TINY = Network(hidden=(16,))
GRU = Network(hidden=(16,), memory="gru", memory_size=8)
METHODS = {
    "ppo": PPO(rollout_length=16, network=TINY, epochs=2, minibatches=2),
    "ppo, recurrent": PPO(rollout_length=16, network=GRU, epochs=2, minibatches=2),
    "mappo": MAPPO(rollout_length=16, network=TINY, epochs=2, minibatches=2),
}


def run(program, calls, seed=0):
    """The states after each call, and the reports."""
    state = program.init(seed)
    compiled, states, reports = program.compile(state), [], []
    for _ in range(calls):
        state, report = compiled(state)
        states.append(numpy_tree(state))
        reports.append(numpy_tree(report))
    return states, reports


@pytest.mark.optimised
@pytest.mark.parametrize("name", METHODS)
def test_environments_on_two_devices_learn_what_they_learn_on_one(name, monkeypatch):
    """Oracle: the same program on one device. The first iteration's experience is the same to the last bit; afterwards
    sums of gradients are rounded differently, and parameters after three iterations agree within 10⁻⁴ of their size."""
    monkeypatch.setattr(device.Program, "steps_a_call", 1)
    method, env = METHODS[name], make("mpe/simple_spread", max_steps=6)
    one, two = (run(Program(method, env, 16, 3 * 16 * 16, devices=d), 3) for d in (1, 2))
    assert_same(two[0][0].actors.env, one[0][0].actors.env)
    assert_same(two[0][0].actors.step, one[0][0].actors.step)
    assert_same(two[0][0].actors.key, one[0][0].actors.key)
    assert_close(two[1][0].episodes, one[1][0].episodes, 1e-5)
    assert one[1][2].episodes.count > 0
    models = lambda states: states[2].learner.shared["groups"]["agents"].models
    size = lambda x: np.abs(x).max()
    for a, b in zip(jax.tree.leaves(models(two[0])), jax.tree.leaves(models(one[0])), strict=True):
        assert size(a - b) <= 1e-4 * size(b)


ENV = Drift(agents=2)
METHOD = PPO(rollout_length=8, network=TINY, epochs=2, minibatches=2)


@pytest.fixture(scope="module")
def alone():
    """One seed's program, and a way to run it from any seed without compiling again."""
    program = Program(METHOD, ENV, 8, 3 * 64)
    return program, program.compile(program.init(0))


@pytest.mark.parametrize("devices", [1, 2])
def test_a_seed_learns_the_same_alone_as_beside_others(alone, devices):
    """Oracle: each seed's own run; seeds share a device, or have one each."""
    program, compiled = alone
    together = Program(METHOD, ENV, 8, 3 * 64, seeds=2, devices=devices)
    (state,), (report,) = run(together, 1, seed=5)
    for k in range(2):
        own, own_report = compiled(program.init(5 + k))
        assert_close(jax.tree.map(lambda x, k=k: x[k : k + 1], state), own, 1e-5)
        assert_close(jax.tree.map(lambda x, k=k: x[k : k + 1], report.episodes), own_report.episodes, 1e-5)


def test_the_same_seed_gives_the_same_run_to_the_last_bit_and_another_does_not(alone):
    program, compiled = alone
    (first, report), (again, same_report), (other, _) = (compiled(program.init(seed)) for seed in (3, 3, 4))
    assert_same(again, first)
    assert_same(same_report, report)
    head = lambda state: np.asarray(state.learner.shared["groups"]["walkers"].models.policy.head.linear.weight)
    assert not np.array_equal(head(other), head(first))


def spoiled_at(moment, env, **options):
    """A game that spoils the first episode of one environment, of the run with seed 0, at its `moment`-th step."""
    births = Program(METHOD, ENV, 8, 64).init(0).actors.env.birth
    return Spoiled(ENV, float(births[0, env]), moment, **options)


def test_a_number_that_is_not_finite_is_reported_with_its_step_and_environment():
    """Oracle: where the game was told to put it: a reward of the second step, in the second device's environments."""
    program = Program(METHOD, spoiled_at(2, 5), 8, 64, devices=2)
    _, (report,) = run(program, 1)
    assert divmod(int(report.bad["walkers"][0]), 8) == (1, 5)


def test_nothing_is_reported_where_everything_is_finite(alone):
    program, compiled = alone
    assert compiled(program.init(0))[1].bad["walkers"] == CLEAN


def test_skipping_keeps_all_parameters_finite_and_counts_what_it_cut():
    program = Program(METHOD, spoiled_at(2, 5, where="observation"), 8, 2 * 64, on_nan="skip")
    (state,), (report,) = run(program, 1)
    assert report.bad == {} and report.episodes.skipped == 1
    floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert all(np.isfinite(x).all() for x in floats)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_envs": 0}, "at least 1"),
        ({"num_envs": 7, "devices": 2}, "7 environments do not divide over 2 devices"),
        ({"devices": 99, "num_envs": 99}, "99 devices"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(options, words):
    with pytest.raises(UsageError, match=words):
        program = Program(METHOD, ENV, **{"num_envs": 8, "steps": 64, **options})
        program.init(0)
