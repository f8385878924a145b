"""DDPG, TD3, SAC and MADDPG against brute force, closed forms, and games whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

import ludus
from ludus.algorithms.joint import as_vector, critic_input, own_first, relaxed
from ludus.algorithms.off_policy.ddpg import DDPG
from ludus.algorithms.off_policy.maddpg import MADDPG
from ludus.algorithms.off_policy.models import distribution, outputs, values
from ludus.algorithms.off_policy.objective import bootstrap
from ludus.algorithms.off_policy.sac import SAC
from ludus.algorithms.off_policy.td3 import TD3
from ludus.algorithms.per_team import PerTeam
from ludus.algorithms.view import moments
from ludus.core.errors import UsageError
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GroupSpec
from ludus.networks.distributions import Categorical, Squashed
from ludus.networks.torso import Network
from ludus.runtime.device import Program
from ludus.runtime.rollout import collect, init_actors
from toys import Drift, Pull, Turns


@pytest.fixture(autouse=True, scope="module")
def fast_programs(quick_compiler):
    """Here programs run for longer than they compile."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


SMALL = Network(hidden=(32, 32), activation="relu")
QUICK = {
    "learning_rate": 3e-3,
    "updates": 4,
    "batch_size": 64,
    "warm_up": 256,
    "capacity": 8_000,
    "network": SMALL,
    "target_rate": 0.02,
}


def trained(algorithm, env, steps, num_envs=16, seeds=1, devices=1):
    program = Program(algorithm, env, num_envs, steps, seeds=seeds, devices=devices)
    state = program.init(0)
    compiled = program.compile(state)
    for _ in range(program.calls):
        state, report = compiled(state)
        jax.block_until_ready(report)
    return program, state, report


def greedy(policy, side, agents):
    seen = jnp.stack([jnp.full(agents, side), jnp.arange(agents) / agents], -1)
    return np.asarray(policy.act(seen).action)[:, 0]


@pytest.mark.optimised
@pytest.mark.parametrize(("kind", "parameters"), [(DDPG, "shared"), (TD3, "independent"), (SAC, "shared")])
def test_everybody_finds_the_best_action_of_a_one_shot_game(kind, parameters):
    """The best action is 1 ± 0.6 in a box from −1 to 3."""
    extra = {"entropy_target": -4.0} if kind is SAC else {}
    program, state, _ = trained(kind(**QUICK, parameters=parameters, **extra), Pull(), 8_000)
    policy = program.policies(state)["pullers"]
    for side in (-1.0, 1.0):
        np.testing.assert_allclose(greedy(policy, side, 2), 1 + 0.6 * side, atol=0.15)


@pytest.mark.optimised
def test_maddpg_shares_a_sum_between_agents_of_their_own():
    """All are paid for the sum of their actions only, so that each must fit the others."""
    program, state, _ = trained(MADDPG(**QUICK), Pull(3, together=True), 8_000)
    for side in (-1.0, 1.0):
        assert abs(greedy(program.policies(state)["pullers"], side, 3).sum() - 1 - 0.6 * side) < 0.2


@pytest.mark.optimised
@pytest.mark.parametrize("kind", [DDPG, MADDPG])
def test_discrete_actions_are_learned_by_straight_through_samples(kind):
    """To the right pays most; where that is not legal, to stay. Three seeds. MADDPG never takes the illegal one, but of
    the others it prefers the better one in some seeds only."""
    game = Drift(agents=2, horizon=4, masked=True, out=False)
    program, state, _ = trained(kind(**QUICK), game, 16_000, seeds=3)
    seen = jnp.array([[0.1, 1.0, 0.5], [-0.2, 1.0, 0.5]])
    legal = jnp.array([[True, True, True], [True, True, False]])
    for seed in range(3):
        right, other = np.asarray(program.policies(state, seed)["walkers"].act(seen, legal).action)
        assert right == 2
        assert other == 1 if kind is DDPG else other != 2


def test_central_critics_see_the_owner_first_then_its_group_then_others():
    mates, _ = (
        GroupSpec("mates", 3, Box((2,)), Discrete(4), "us", 3),
        GroupSpec("rival", 1, Box((1,)), Box((2,)), "it", 1),
    )
    rng = np.random.default_rng(0)
    own, done = rng.normal(size=(5, 3, 4)), rng.normal(size=(5, 3, 4))
    other = rng.normal(size=(5, 1, 2))
    found = np.asarray(own_first(mates, jnp.asarray(own), {"mates": jnp.asarray(done), "rival": jnp.asarray(other)}))
    ideas = rng.normal(size=(5, 3, 3, 4))
    rivals = rng.normal(size=(5, 3, 1, 2))
    apart = np.asarray(own_first(mates, jnp.asarray(own), {"mates": jnp.asarray(ideas), "rival": jnp.asarray(rivals)}))
    for b in range(5):
        for i in range(3):
            rest = [(i + 1) % 3, (i + 2) % 3]
            np.testing.assert_allclose(found[b, i], [*own[b, i], *done[b, rest].reshape(-1), *other[b, 0]], rtol=1e-6)
            np.testing.assert_allclose(
                apart[b, i], [*own[b, i], *ideas[b, i, rest].reshape(-1), *rivals[b, i, 0]], rtol=1e-6
            )


def test_relaxed_samples_are_drawn_by_the_policy_and_carry_the_gradient_of_a_softmax():
    logits = jnp.array([0.3, -1.0, 1.2, 0.0])
    legal = jnp.array([True, True, True, False])
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = jax.vmap(lambda k: relaxed(Categorical.of(logits, legal), k))(keys)
    np.testing.assert_array_equal(np.sort(np.asarray(drawn), -1)[:, -1], 1)
    p = np.asarray(jax.nn.softmax(jnp.where(legal, logits, -jnp.inf)))
    assert np.asarray(drawn)[:, 3].sum() == 0
    np.testing.assert_allclose(np.asarray(drawn).mean(0), p, atol=4 * np.sqrt(0.25 / 20_000))
    weight, key = jnp.array([1.0, 2.0, -1.0, 5.0]), keys[0]
    noise = jax.random.gumbel(key, (4,))
    soft = lambda y: jax.nn.softmax(Categorical.of(y, legal).log_probs + noise) @ weight
    through = lambda y: relaxed(Categorical.of(y, legal), key) @ weight
    np.testing.assert_allclose(jax.grad(through)(logits), jax.grad(soft)(logits), rtol=1e-5)


def test_squashed_gaussians_are_densities_of_what_they_draw():
    """Oracle: the integral over the box is 1, and the two ways to the density agree."""
    one = lambda m, s: Squashed(jnp.array([m]), jnp.array([s]), jnp.array([-2.0]), jnp.array([6.0]))
    for mean, log_std in ((0.0, -0.5), (0.8, -1.0)):
        density = lambda a: float(jnp.exp(one(mean, log_std).log_prob(jnp.array([a]))))
        total, _ = integrate.quad(density, -2 + 1e-5, 6 - 1e-5, limit=200)
        assert abs(total - 1) < 2e-3
    action, score = one(0.4, -0.3).draw(jax.random.key(3))
    np.testing.assert_allclose(one(0.4, -0.3).log_prob(action), score, atol=1e-3)
    extreme = one(12.0, -3.0)  # where 1 − tanh² would round to 0
    assert np.isfinite(float(extreme.draw(jax.random.key(0))[1]))


def test_td3_smooths_target_actions_within_its_cut_and_live_ones_not_at_all():
    method, space = TD3(target_noise=500.0, target_clip=0.5), Box((1,), 0.0, 4.0)
    group = GroupSpec("one", 1, Box((1,)), space, "one", 1)
    env = Pull(1)
    seen = moments(_rollout(method, env, 4)[1]).now["pullers"]
    found = distribution(group, jnp.zeros((*seen.acting.shape, 1)), seen)
    key = jax.random.key(0)
    live, _ = method.choose(space, found, key, target=False)
    shaken, _ = method.choose(space, found, key, target=True)
    np.testing.assert_allclose(live, 0.0, atol=1e-6)
    np.testing.assert_allclose(jnp.abs(shaken), 0.5, atol=1e-6)  # so much noise is always cut


def _rollout(method, env, num_envs=6, length=None):
    learner = method.init(env.spec, num_envs, key=jax.random.key(1))
    policies = method.policy(learner)
    actors = init_actors(env, policies, jax.random.split(jax.random.key(2), num_envs))
    _, rollout, _ = collect(env, policies, actors, length or method.rollout_length)
    return learner, rollout


@pytest.mark.parametrize("length", [1, 7])
def test_target_values_are_those_of_target_actors_at_the_true_next_moments(length):
    """Oracle: networks applied one observation at a time."""
    env = Drift(agents=3, horizon=5)
    method = MADDPG(rollout_length=length, network=SMALL, batch_size=6)
    learner, rollout = _rollout(method, env)
    units, key = learner.shared["units"], jax.random.key(4)
    found = bootstrap(method, env.spec, units, rollout, key)["walkers"]
    unit, group, seen = units["walkers"], env.spec.groups[0], moments(rollout).next
    y = outputs(unit.target.actor, group, seen["walkers"].observation, None, independent=True)
    probabilities = np.asarray(distribution(group, y, seen["walkers"]).log_probs)
    for e in range(6):
        for i in range(3):
            own = jax.tree.map(lambda x, i=i: x[i], unit.target)
            by_hand = jax.nn.log_softmax(own.actor(seen["walkers"].observation[e, i]))
            np.testing.assert_allclose(probabilities[e, i], by_hand, rtol=1e-4, atol=1e-5)
        allowed = []
        for code in range(27):  # the sampled joint action is one of them
            joint = [code // 9, code // 3 % 3, code % 3]
            hot = np.eye(3)[joint]
            row = []
            for i in range(3):
                order = [i, (i + 1) % 3, (i + 2) % 3]
                shown = np.asarray(seen["walkers"].observation)[e]
                x = np.concatenate([shown[order].reshape(-1), hot[order].reshape(-1)]).astype(np.float32)
                critic = jax.tree.map(lambda x, i=i: x[i], unit.target.critic)
                row.append(float(critic(jnp.asarray(x)).min(-1)))
            allowed.append(row)
        gap = np.abs(np.asarray(allowed) - np.asarray(found.next)[e, :, 0]).max(1)
        assert gap.min() < 1e-4


def test_actors_replace_only_their_own_action_in_what_critics_see():
    """The others' actions come from the replay, so that no gradient reaches the others' actors."""
    env = Pull(3)
    method = MADDPG(network=SMALL)
    learner, rollout = _rollout(method, env)
    unit, group = learner.shared["units"]["pullers"], env.spec.groups[0]
    now, done = moments(rollout).now, as_vector(group.action, rollout.groups["pullers"].action)

    def gain(actor, i):
        y = outputs(actor, group, now["pullers"].observation, None, independent=True)
        live = method.choose(group.action, distribution(group, y, now["pullers"]), jax.random.key(0), target=False)[0]
        x = critic_input(env.spec, group, now, live, {"pullers": done}, central=True)
        return values(unit.networks.critic, x, independent=True)[:, :, i].sum()

    for i in range(3):
        slope = jax.grad(gain)(unit.networks.actor, i)
        moved = [float(jnp.abs(slope.head.weight[j]).sum()) > 0 for j in range(3)]
        assert moved == [j == i for j in range(3)]


def test_an_ensembles_member_plays_a_whole_episode_and_learns_from_it_alone():
    env = Drift(agents=2, horizon=5, out=False)
    method = MADDPG(rollout_length=40, ensemble=3, network=SMALL)
    learner, rollout = _rollout(method, env, 50)
    member, start = np.asarray(rollout.groups["walkers"].extras["member"]), np.asarray(rollout.start)
    assert set(np.unique(member)) == {0, 1, 2}
    for t in range(1, 40):
        for e in range(50):
            if not start[t, e]:
                np.testing.assert_array_equal(member[t, e], member[t - 1, e])
    drawn = member[start]  # [episode, agent]
    share = np.stack([(drawn == k).mean(0) for k in range(3)])
    np.testing.assert_allclose(share, 1 / 3, atol=4 * np.sqrt(0.25 / len(drawn)))
    same = (drawn[:, 0] == drawn[:, 1]).mean()
    assert abs(same - 1 / 3) < 4 * np.sqrt(0.25 / len(drawn))  # agents draw for themselves
    unit, group = learner.shared["units"]["walkers"], env.spec.groups[0]
    seen = moments(rollout).now["walkers"].observation
    only = jnp.full(rollout.groups["walkers"].acting.shape, 2)
    total = lambda actor: outputs(actor, group, seen, only, independent=True).sum()
    slope = jax.grad(total)(unit.networks.actor)
    moved = np.abs(np.asarray(slope.head.bias)).sum(-1) > 0  # [agent, member]
    np.testing.assert_array_equal(moved, np.tile([False, False, True], (2, 1)))


@pytest.mark.optimised
def test_inferred_policies_come_to_match_the_true_ones_and_serve_as_well():
    """Coordination pays both 1 on the diagonal: either choice will do, if the other is known."""
    env = ludus.make("matrix/coordination")
    method = MADDPG(**{**QUICK, "learning_rate": 1e-2}, infer_others=True)
    program, state, report = trained(method, env, 8_000)
    assert 0 <= float(report.metrics["agents/kl_of_agents"][0]) < 0.05
    action = np.asarray(program.policies(state)["agents"].act(jnp.ones((2, 1))).action)
    assert action[0] == action[1]


@pytest.mark.parametrize(
    "method",
    [
        DDPG(network=SMALL),
        SAC(network=SMALL, parameters="independent"),
        MADDPG(network=SMALL, ensemble=2),
        MADDPG(network=SMALL, ensemble=2, parameters="shared"),
    ],
    ids=["ddpg", "sac", "ensemble", "shared-ensemble"],
)
def test_stored_policies_act_as_they_did(method, tmp_path):
    from ludus.experiment.api import load_policy
    from ludus.storage.policies import save_policy_file

    env = Pull()
    learner = method.init(env.spec, 4, key=jax.random.key(0))
    policy = method.policy(learner)["pullers"]
    save_policy_file(tmp_path / "p.safetensors", policy, method.architecture(env.spec.groups[0]))
    again = load_policy(tmp_path / "p.safetensors")
    seen, key = jnp.array([[1.0, 0.0], [1.0, 0.5]]), jax.random.key(5)
    for explore in (False, True):
        a, b = (p.act(seen, key=key, explore=explore).action for p in (policy, again))
        np.testing.assert_array_equal(a, b)


def test_results_do_not_depend_on_the_spread_over_devices():
    """Uniform samples are the same; sums are in another order."""
    method = DDPG(**{**QUICK, "updates": 2})
    found = [trained(method, Pull(), 2_000, num_envs=16, devices=d)[1] for d in (1, 2)]
    actors = [jax.tree.leaves(s.learner.shared["units"]["pullers"].networks) for s in found]
    for a, b in zip(*actors, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-3)


def test_continuous_actions_begin_uniformly_random():
    method = DDPG(network=SMALL, warm_up=100, rollout_length=40)
    _, rollout = _rollout(method, Pull(), 50)
    drawn = np.asarray(rollout.groups["pullers"].action).reshape(-1)
    assert abs(np.quantile(drawn, 0.25)) < 0.1 and abs(np.quantile(drawn, 0.75) - 2) < 0.1


def test_teams_may_learn_by_different_critics():
    env = Drift(agents=4, teams=True)
    method = MADDPG(network=SMALL, local_teams=("right",))
    units = method.init(env.spec, 4, key=jax.random.key(0)).shared["units"]
    width = lambda name: units[name].networks.critic.torso.before.linears[0].weight.shape[-2]
    assert (width("left"), width("right")) == (4 * (3 + 3), 3 + 3)
    mixed = PerTeam({"left": MADDPG(network=SMALL), "right": DDPG(network=SMALL)})
    assert mixed.check(env.spec, 4) is None
    _, state, _ = trained(PerTeam({"left": MADDPG(**QUICK), "right": DDPG(**QUICK)}), env, 1_000)
    assert np.isfinite(np.asarray(jax.tree.leaves(state.learner.shared["teams"]["left"]["units"])[0])).all()


@pytest.mark.parametrize(
    ("method", "env", "words"),
    [
        (DDPG(), Turns(), "played in turns; ppo or dqn fits"),
        (SAC(), Drift(), "needs continuous actions"),
        (TD3(), Drift(), "needs continuous actions"),
        (replace(DDPG(), network=Network(memory="gru")), Pull(), "feed-forward"),
        (replace(DDPG(), batch_size=30), Pull(), "divide one another"),
        (replace(MADDPG(), local_teams=("wolves",)), Pull(), "'wolves'"),
        (replace(MADDPG(), ensemble=0), Pull(), "at least 1"),
        (replace(DDPG(), n_step=4), Pull(), "4-step returns"),
        (replace(DDPG(), capacity=2), Pull(), "does not hold one rollout"),
    ],
)
def test_what_does_not_fit_is_said(method, env, words):
    with pytest.raises(UsageError, match=words):
        Program(method, env, 16, 1_000)
