"""DQN, VDN, QMIX and QPLEX against known answers, rlax, and brute force."""

from __future__ import annotations

import itertools
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

import ludus
from ludus.algorithms.value.dqn import DQN
from ludus.algorithms.value.objective import greedy_values, look, penalty, targets
from ludus.algorithms.value.qmix import QMIX
from ludus.algorithms.value.qplex import QPLEX
from ludus.algorithms.value.vdn import VDN
from ludus.algorithms.view import Everywhere
from ludus.core.errors import UsageError
from ludus.core.rollout import Rollout
from ludus.learning.returns import backups
from ludus.networks.mixers import Monotone, Plex
from ludus.networks.torso import Network
from ludus.runtime.device import Program
from ludus.runtime.rollout import collect, init_actors
from toys import Drift, Turns

TWO_STEP = {
    "explore": 1.0,
    "final_explore": 1.0,
    "rollout_length": 2,
    "learning_rate": 1e-3,
    "capacity": 4000,
    "warm_up": 64,
    "target_every": 50,
    "agent_ids": True,
    "network": Network(hidden=(64,), activation="relu"),
}


def trained(algorithm, env, steps, num_envs=8, seeds=1, devices=1):
    """The program and its last state."""
    program = Program(algorithm, env, num_envs, steps, seeds=seeds, devices=devices)
    state = program.init(0)
    compiled = program.compile(state)
    for _ in range(program.calls):
        state, report = compiled(state)
        jax.block_until_ready(report)
    return program, state


def models(state, seed=0, unit="team"):
    return jax.tree.map(lambda x: x[seed], state.learner.shared["units"][unit].models)


def joint_values(model, place):
    """Q_tot of the two-step game's joint actions in state 0, 1 (2A) or 2 (2B)."""
    seen = jnp.broadcast_to(jnp.eye(3)[place], (2, 3))
    network = model.networks["agents"]
    values = network.read(network.torso.step_core(seen, ())[0])[..., 0]
    table = np.zeros((2, 2))
    for a in range(2):
        for b in range(2):
            chosen = jnp.stack([values[0, a], values[1, b]])
            table[a, b] = model.mixer(chosen, values.max(-1), jnp.eye(3)[place])
    return table


def two_step_return(model):
    first = joint_values(model, 0)
    a = int(first.max(1).argmax())
    second = joint_values(model, 1 + a)
    row, column = np.unravel_index(second.argmax(), (2, 2))
    return [7.0, float(np.array([[0, 1], [1, 8]])[row, column])][a]


@pytest.mark.optimised
def test_two_step_game_qmix_finds_8_and_vdn_cannot():
    """Rashid et al. 2018, at ε = 1."""
    env = ludus.make("matrix/two_step")
    _, state = trained(QMIX(**TWO_STEP), env, 60_000, seeds=10)
    returns = [two_step_return(models(state, k)) for k in range(10)]
    assert sum(r == 8 for r in returns) >= 9
    for k in range(10):
        np.testing.assert_allclose(joint_values(models(state, k), 2), [[0, 1], [1, 8]], atol=0.15)
        np.testing.assert_allclose(joint_values(models(state, k), 0), [[6.93, 6.93], [7.92, 7.92]], atol=0.2)
    _, state = trained(VDN(**TWO_STEP), env, 60_000, seeds=10)
    assert all(two_step_return(models(state, k)) == 7 for k in range(10))
    for k in range(10):
        np.testing.assert_allclose(joint_values(models(state, k), 2), [[-1.5, 2.5], [2.5, 6.5]], atol=0.5)
        np.testing.assert_allclose(joint_values(models(state, k), 1), 7, atol=0.3)


@pytest.mark.optimised
@pytest.mark.parametrize("kind", [VDN, QMIX])
def test_climbing_is_beyond_sums_and_monotone_mixers(kind):
    """The negative control: fitted on uniform data, both prefer the safe corner (c, c), which pays 5."""
    algorithm = kind(**{**TWO_STEP, "rollout_length": 1, "anneal": True})
    _, state = trained(algorithm, ludus.make("matrix/climbing"), 40_000, seeds=3)
    for k in range(3):
        network = models(state, k).networks["agents"]
        values = network.read(network.torso.step_core(jnp.ones((2, 1)), ())[0])[..., 0]
        np.testing.assert_array_equal(values.argmax(-1), [2, 2])


def test_qplex_represents_what_monotone_mixers_cannot():
    algorithm = QPLEX(**{**TWO_STEP, "rollout_length": 1, "anneal": True, "learning_rate": 2e-3, "mixer_width": 128})
    _, state = trained(algorithm, ludus.make("matrix/climbing"), 120_000, seeds=3)
    monotone = 110.82  # the least squared error of any monotone fit
    payoffs = np.array([[11, -30, 0], [-30, 7, 6], [0, 0, 5]])
    for k in range(3):
        model = models(state, k)
        network = model.networks["agents"]
        values = network.read(network.torso.step_core(jnp.ones((2, 1)), ())[0])[..., 0]
        fit = [
            [float(model.mixer(jnp.stack([values[0, a], values[1, b]]), values.max(-1), jnp.ones(2))) for b in range(3)]
            for a in range(3)
        ]
        assert np.square(fit - payoffs).mean() < 0.6 * monotone


def test_mixers_grow_with_every_agents_value():
    rng = np.random.default_rng(0)
    for mixer in (Monotone.init(4, 6, key=jax.random.key(0)), Plex.init(4, 6, key=jax.random.key(1))):
        for _ in range(20):
            state, best = jnp.asarray(rng.normal(size=6)), jnp.asarray(rng.normal(size=4))
            top = mixer(best, best, state)
            for _ in range(10):
                chosen = best - jnp.asarray(rng.uniform(0, 2, 4))
                assert mixer(chosen, best, state) <= top + 1e-5  # everybody's best is the team's best
    monotone = Monotone.init(4, 6, key=jax.random.key(0))
    slope = jax.vmap(jax.grad(lambda q, s: monotone(q, q, s)))(
        jnp.asarray(rng.normal(size=(100, 4))), jnp.asarray(rng.normal(size=(100, 6)))
    )
    assert (slope >= 0).all()
    assert (slope > 0).any()


def batch(time, envs, seed):
    rng = np.random.default_rng(seed)
    reward, value = rng.normal(size=(time, envs, 1)), rng.normal(size=(time, envs, 1, 1))
    following = rng.normal(size=(envs, 1, 1))
    terminated = rng.random((time, envs)) < 0.15
    return [jnp.asarray(x) for x in (reward, value, following, terminated)]


def backed_up(reward, value, following, terminated, **settings):
    time, envs = terminated.shape
    acting = Everywhere(jnp.ones((time, envs, 1), bool), jnp.ones((envs, 1), bool), None)
    nothing = jnp.zeros((time, envs), bool)
    rollout = Rollout({}, None, nothing, terminated, nothing, None, jnp.zeros(()))
    return backups(reward, Everywhere(value, following, None), acting, rollout, discount=0.9, **settings)


@pytest.mark.parametrize("seed", range(5))
def test_targets_equal_rlax(seed):
    reward, value, following, terminated = batch(12, 3, seed)
    after = jnp.concatenate([value[1:, :, 0, 0], following[None, :, 0, 0]])
    discount = 0.9 * (1 - terminated)
    for trace in (0.0, 0.7, 1.0):
        target, valid = backed_up(reward, value, following, terminated, trace=trace)
        assert valid.all()
        for e in range(3):
            expected = rlax.lambda_returns(reward[:, e, 0], discount[:, e], after[:, e], trace)
            np.testing.assert_allclose(target[:, e, 0, 0], expected, rtol=1e-5, atol=1e-5)
    for steps in (1, 3, 5):
        target, _ = backed_up(reward, value, following, terminated, steps=steps)
        for e in range(3):
            expected = rlax.n_step_bootstrapped_returns(reward[:, e, 0], discount[:, e], after[:, e], steps)
            np.testing.assert_allclose(target[:, e, 0, 0], expected, rtol=1e-5, atol=1e-5)


def test_double_values_take_the_choosers_action_and_never_an_illegal_one():
    rng = np.random.default_rng(0)
    chooser, valued = rng.normal(size=(2, 5, 4, 2, 6, 1))
    legal = rng.random((5, 4, 2, 6)) < 0.5
    legal[..., 0] |= ~legal.any(-1)
    wrap = lambda x: Everywhere(jnp.asarray(x), jnp.asarray(x[0]), None)
    found = np.asarray(greedy_values(wrap(chooser), wrap(valued), wrap(legal)).now)[..., 0]
    for index in np.ndindex(5, 4, 2):
        best = max(np.flatnonzero(legal[index]), key=lambda a: chooser[index][a, 0])
        np.testing.assert_allclose(found[index], valued[index][best, 0], rtol=1e-6)


def test_scaled_rewards_are_those_of_a_game_that_pays_so_much_more():
    env = ludus.make("matrix/two_step")
    spec, groups = env.spec, list(env.spec.groups)
    algorithm = QMIX(network=Network(hidden=(8,)))
    learner = algorithm.init(spec, 4, key=jax.random.key(0))
    actors = init_actors(env, algorithm.policy(learner), jax.random.split(jax.random.key(1), 4))
    _, rollout, _ = collect(env, algorithm.policy(learner), actors, 6)
    unit = learner.shared["units"]["team"]

    def aimed(algorithm, rollout):
        newest = look(algorithm, unit.models, rollout, spec, groups)
        return targets(algorithm, newest, unit.target, rollout, spec, groups).value

    paid = lambda r: r.groups["agents"].reward
    richer = eqx.tree_at(paid, rollout, 10 * paid(rollout))
    assert jnp.abs(paid(rollout)).max() > 0
    np.testing.assert_array_equal(aimed(replace(algorithm, reward_scale=10.0), rollout), aimed(algorithm, richer))
    assert jnp.abs(aimed(algorithm, richer) - aimed(algorithm, rollout)).max() > 1


def test_quantile_loss_equals_rlax():
    rng = np.random.default_rng(0)
    value, target = (jnp.asarray(rng.normal(size=(4, 3, 1, 8))) for _ in range(2))
    ours = penalty(DQN(quantiles=8), value, target)
    middle = (jnp.arange(8) + 0.5) / 8
    for index in np.ndindex(4, 3):
        both = jnp.stack([value[index][0], value[index][0]], -1)
        expected = rlax.quantile_q_learning(
            both, middle, jnp.asarray(0), jnp.asarray(0.0), jnp.asarray(1.0),
            jnp.stack([target[index][0]] * 2, -1), jnp.stack([target[index][0]] * 2, -1), 1.0,
        )  # fmt: skip
        np.testing.assert_allclose(ours[index][0], expected, rtol=1e-5)


def test_episodes_end_where_they_end_and_not_a_step_later():
    """A well-known peer masks with the next step's `done`. Two steps, paid 0 and then 1: values 0.9 and 1."""
    env = ludus.make("stochastic/grid_world")
    algorithm = DQN(
        discount=0.9,
        learning_rate=3e-3,
        warm_up=64,
        final_explore=1.0,
        target_every=25,
        rollout_length=4,
        batch_size=8,
        network=Network(hidden=(64,), activation="relu"),
    )
    _, state = trained(algorithm, env, 60_000)
    network = models(state, unit="player_0").networks["player_0"]
    q = np.asarray(network.read(network.torso.step_core(jnp.eye(6), ())[0])[..., 0])
    expected = {(1, 2): 100, (5, 0): 100, (0, 2): 90, (4, 2): 90, (4, 0): 90, (3, 0): 81, (1, 3): 81, (0, 1): 72.9}
    for (place, action), value in expected.items():
        np.testing.assert_allclose(q[place, action], value, atol=2.5)


WALKERS, TURNS, TWO_GROUPS = Drift(agents=3, masked=True), Turns(truncates=True), Drift(agents=4, teams=True)
COMBINATIONS = [  # every pair of game, memory and parameters; all others run among the slow tests
    *((DQN, *c) for c in ((WALKERS, "gru", "shared"), (TURNS, "none", "shared"), (TURNS, "gru", "independent"))),
    *((DQN, *c) for c in ((TWO_GROUPS, "gru", "shared"), (TWO_GROUPS, "none", "independent"))),
    *((QMIX, *c) for c in ((WALKERS, "none", "independent"), (TWO_GROUPS, "gru", "shared"))),
    *((kind, WALKERS, "none", "shared") for kind in (VDN, QPLEX)),
]
ALL = [
    *itertools.product((DQN,), (WALKERS, TURNS, TWO_GROUPS), ("none", "gru"), ("shared", "independent")),
    *itertools.product((QMIX, VDN, QPLEX), (WALKERS, TWO_GROUPS), ("none", "gru"), ("shared", "independent")),
]


@pytest.mark.parametrize(
    ("kind", "env", "memory", "parameters"),
    [*COMBINATIONS, *(pytest.param(*c, marks=pytest.mark.slow) for c in ALL if c not in COMBINATIONS)],
)
def test_every_combination_runs_and_stays_finite(kind, env, memory, parameters):
    network = Network(hidden=(8,), memory=memory, memory_size=6)
    algorithm = kind(
        rollout_length=6, batch_size=4, warm_up=0, network=network, parameters=parameters, dueling=kind is DQN,
        prioritised=memory == "gru", burn_in=2 if memory == "gru" else 0, n_step=2,
    )  # fmt: skip
    program, state = trained(algorithm, env, 4 * 6 * 5, num_envs=4)
    for leaf in jax.tree.leaves(state.learner.shared["units"]):
        assert jnp.isfinite(leaf).all()
    assert set(program.policies(state)) == {g.name for g in env.spec.groups}


def test_results_do_not_depend_on_how_environments_are_spread():
    env = Drift(agents=3, masked=True)
    algorithm = QMIX(rollout_length=6, batch_size=4, warm_up=0, network=Network(hidden=(8,)))
    _, one = trained(algorithm, env, 4 * 6 * 10, num_envs=4, devices=1)
    _, two = trained(algorithm, env, 4 * 6 * 10, num_envs=4, devices=2)
    for a, b in zip(jax.tree.leaves(models(one)), jax.tree.leaves(models(two)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_misfits_get_a_sentence():
    two_step, kuhn = ludus.make("matrix/two_step"), ludus.make("spiel/kuhn_poker")
    for algorithm, env, words in (
        (DQN(), ludus.make("gym/Pendulum-v1"), "discrete actions"),
        (VDN(), kuhn, "played in turns"),
        (QMIX(), ludus.make("matrix/rock_paper_scissors"), "are rivals"),
        (QMIX(quantiles=4), two_step, "quantiles are dqn's"),
        (DQN(n_step=9), two_step, "9-step returns"),
        (DQN(n_step=3, trace=0.5), two_step, "two ways"),
        (DQN(burn_in=8), two_step, "leaves nothing"),
        (DQN(batch_size=12), two_step, "divide one another"),
        (DQN(capacity=10), two_step, "does not hold one rollout"),
        (replace(DQN(agent_ids=True), parameters="independent"), two_step, "must be off"),
    ):
        with pytest.raises(UsageError, match=words):
            Program(algorithm, env, 8, 1000)


def test_a_stored_policy_acts_again(tmp_path):
    for parameters in ("shared", "independent"):
        algorithm = QMIX(network=Network(hidden=(8,)), rollout_length=2, parameters=parameters, warm_up=0)
        path = tmp_path / parameters
        run = ludus.train(algorithm, "matrix/two_step", steps=512, num_envs=8, run_dir=path, evaluate_episodes=8)
        policy = ludus.load_policy(next((path / "policies").rglob("*.safetensors")))
        seen = jnp.broadcast_to(jnp.eye(3)[0], (2, 3))
        np.testing.assert_array_equal(policy.act(seen).action, run.policy["agents"].act(seen).action)
