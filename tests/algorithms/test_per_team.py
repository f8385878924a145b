"""Different algorithms for different teams: each learns as it would alone, and mistakes are named."""

from __future__ import annotations

from dataclasses import replace

import jax
import pytest

from ludus.algorithms.per_team import PerTeam, parse
from ludus.algorithms.policy_gradient.a2c import A2C
from ludus.algorithms.policy_gradient.mappo import MAPPO
from ludus.algorithms.policy_gradient.ppo import PPO
from ludus.algorithms.registry import make_algorithm, name_of
from ludus.core.errors import UsageError
from ludus.networks.torso import Network
from toys import Drift, assert_close, play

ENV = Drift(agents=3, teams=True)
TEAMS = {
    "left": MAPPO(rollout_length=8, network=Network(hidden=(8,), memory="gru", memory_size=6), minibatches=2),
    "right": A2C(rollout_length=8, network=Network(hidden=(4,))),
}


def test_each_team_learns_as_its_algorithm_would_alone():
    """Oracle: every algorithm on its team's part of the game and of the rollout, with the key it is given."""
    both, key = PerTeam(TEAMS), jax.random.key(3)
    learner, rollout = play.__wrapped__(both, ENV)  # which has no hash
    found, metrics = jax.jit(both.update)(learner, rollout, key=key)
    for i, (team, algorithm) in enumerate(TEAMS.items()):
        alone = algorithm.init(ENV.spec.restrict((team,)), 6, key=jax.random.key(0))
        assert jax.tree.structure(alone.shared) == jax.tree.structure(learner.shared["teams"][team])
        mine = type(alone)(learner.shared["teams"][team], learner.per_env[team])
        expected, own = jax.jit(algorithm.update)(mine, rollout.restrict((team,)), key=jax.random.fold_in(key, i))
        assert_close(found.shared["teams"][team]["groups"], expected.shared["groups"], 1e-6)
        assert_close(found.per_env[team], expected.per_env, 1e-6)
        assert_close({name: metrics[name] for name in own}, own, 1e-6)
    assert set(both.policy(learner)) == {"left", "right"}


def test_a_list_of_teams_is_read_and_written():
    both = make_algorithm("left=mappo,right=a2c")
    assert both == PerTeam({"left": MAPPO(), "right": A2C()}) and name_of(both) == "left=mappo,right=a2c"
    assert parse("ppo", make_algorithm) is None
    with pytest.raises(UsageError, match="did you mean 'mappo'"):
        make_algorithm("left=mapo,right=a2c")


@pytest.mark.parametrize(
    ("teams", "words"),
    [
        ({"left": PPO(), "rigth": PPO()}, "no team 'rigth'; did you mean 'right'"),
        ({"left": PPO()}, "team 'right' of toy/drift has no algorithm"),
        ({"left": PPO(), "right": A2C()}, "rollout_length must agree"),
        ({"left": PPO(), "right": PPO(minibatches=3)}, "3 minibatches do not divide 128"),
    ],
)
def test_what_does_not_fit_is_named(teams, words):
    problem = PerTeam(teams).check(ENV.spec, 8)
    assert problem is not None and words in problem
    assert PerTeam({"left": PPO(), "right": replace(PPO(), epochs=2)}).check(ENV.spec, 8) is None
