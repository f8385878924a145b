"""Matrix games pay what their payoff tables say, and wrong names and tables are refused with a useful word."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ludus.core.errors import UsageError
from ludus.envs import matrix, registry

KEY = jax.random.key(0)


def start(env):
    return env.reset(KEY)


def act(env, state, *joint):
    """One step with one action for each player, in the order of the groups."""
    actions, rest = {}, list(joint)
    for group in env.spec.groups:
        actions[group.name] = jnp.asarray([rest.pop(0) for _ in range(group.size)])
    return env.step(KEY, state, actions)


def rewards(env, step):
    return tuple(float(r) for group in env.spec.groups for r in step.reward[group.name])


def payoff(env, *joint):
    """What the players get for a joint action in the first round."""
    state, _ = start(env)
    _, step = act(env, state, *joint)
    return rewards(env, step)


def table(name, **options):
    """All payoffs of a two-player game as two lists of rows."""
    env = registry.make(f"matrix/{name}", **options)
    n = env.payoffs.shape[0]
    both = [[payoff(env, i, j) for j in range(n)] for i in range(n)]
    return tuple([[both[i][j][player] for j in range(n)] for i in range(n)] for player in (0, 1))


SILENT, BETRAY = 0, 1


@pytest.mark.parametrize(
    ("joint", "expected"),
    [
        ((SILENT, SILENT), (-1, -1)),
        ((SILENT, BETRAY), (-3, 0)),
        ((BETRAY, SILENT), (0, -3)),
        ((BETRAY, BETRAY), (-2, -2)),
    ],
)
def test_prisoners_dilemma(joint, expected):
    assert payoff(registry.make("matrix/prisoners_dilemma"), *joint) == expected


def test_matching_pennies_is_zero_sum_and_the_first_player_wants_a_match():
    row, column = table("matching_pennies")
    assert row == [[1, -1], [-1, 1]]
    assert column == [[-1, 1], [1, -1]]
    assert registry.make("matrix/matching_pennies").spec.reward == "zero-sum"


def test_rock_paper_scissors_paper_beats_rock():
    env = registry.make("matrix/rock_paper_scissors")
    rock, paper, scissors = range(3)
    assert payoff(env, paper, rock) == payoff(env, scissors, paper) == payoff(env, rock, scissors) == (1, -1)
    assert payoff(env, rock, rock) == (0, 0)
    assert env.spec.reward == "zero-sum" and env.spec.symmetric


def test_climbing_pays_both_players_the_same():
    row, column = table("climbing")
    assert row == column == [[11, -30, 0], [-30, 7, 6], [0, 0, 5]]
    assert registry.make("matrix/climbing").spec.reward == "common"


@pytest.mark.parametrize("k", [0.0, -10.0, -100.0])
def test_penalty_game_takes_its_k(k):
    row, column = table("penalty", penalty=k)
    assert row == column == [[10, 0, k], [0, 2, 0], [k, 0, 10]]


def test_stag_hunt():
    row, column = table("stag_hunt")
    assert row == [[4, 1], [3, 2]]
    assert column == [[4, 3], [1, 2]]
    assert registry.make("matrix/stag_hunt").spec.reward == "general-sum"


def test_shapleys_game_is_not_symmetric():
    row, column = table("shapley")
    assert row == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert column == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    spec = registry.make("matrix/shapley").spec
    assert not spec.symmetric
    assert [group.name for group in spec.groups] == ["player_0", "player_1"]


@pytest.mark.parametrize("second", list(itertools.product((0, 1), repeat=2)))
@pytest.mark.parametrize("first", list(itertools.product((0, 1), repeat=2)))
def test_two_step_game_agent_0_picks_the_second_game(first, second):
    env = registry.make("matrix/two_step")
    state, shown = start(env)
    assert not shown.done
    state, middle = act(env, state, *first)
    assert rewards(env, middle) == (0, 0) and not middle.done
    _, last = act(env, state, *second)
    expected = 7 if first[0] == 0 else [[0, 1], [1, 8]][second[0]][second[1]]
    assert rewards(env, last) == (expected, expected)
    assert last.terminated and not last.truncated
    assert env.spec.horizon == 2


def test_two_step_game_shows_which_game_is_played():
    env = registry.make("matrix/two_step")
    state, shown = start(env)
    seen = [shown.state] + [act(env, state, a, 0)[1].state for a in (0, 1)]
    assert np.array_equal(np.stack(seen), np.eye(3))


def test_a_one_shot_game_ends_after_one_round():
    env = registry.make("matrix/chicken")
    state, shown = start(env)
    assert not shown.done
    _, last = act(env, state, 0, 0)
    assert last.terminated and not last.truncated
    assert env.spec.horizon == 1


def test_a_repeated_game_shows_the_last_joint_action_and_ends_after_its_rounds():
    env = registry.make("matrix/rock_paper_scissors", rounds=4)
    state, shown = start(env)
    assert np.array_equal(shown.observation["players"], [[1, 0, 0, 0, 0, 0, 0]] * 2), "no action before the first round"
    for round_, (a, b) in enumerate([(0, 2), (1, 1), (2, 0), (0, 1)], start=1):
        state, step = act(env, state, a, b)
        row = [1, *np.eye(3)[a], *np.eye(3)[b]]
        assert np.array_equal(step.observation["players"], [row, row])
        assert bool(step.done) == (round_ == 4)
        assert rewards(env, step) == payoff(env, a, b), "payoffs are given in every round"
    assert env.spec.horizon == 4


def test_a_custom_game_of_three_players_with_different_actions():
    payoffs = np.random.default_rng(0).normal(size=(2, 3, 4, 3)).astype(np.float32)
    env = registry.make("matrix/custom", payoffs=payoffs, rounds=2)
    assert [(g.name, g.action.n) for g in env.spec.groups] == [("player_0", 2), ("player_1", 3), ("player_2", 4)]
    assert env.spec.reward == "general-sum" and not env.spec.symmetric
    for joint in itertools.product(range(2), range(3), range(4)):
        assert payoff(env, *joint) == tuple(payoffs[joint])
    state, _ = start(env)
    _, step = act(env, state, 1, 2, 3)
    for group in env.spec.groups:
        assert np.array_equal(step.observation[group.name], [[1, *np.eye(2)[1], *np.eye(3)[2], *np.eye(4)[3]]])


def test_payoffs_may_be_nested_lists():
    env = registry.make("matrix/custom", payoffs=[[[1, -1], [-1, 1]], [[-1, 1], [1, -1]]])
    assert payoff(env, 0, 1) == (-1, 1)


def test_symmetry_of_three_players_needs_every_exchange():
    counts = np.array([[3.0, 1.0, 0.5], [0.0, 2.0, 4.0]])  # payoff by own action and how many others play 1
    symmetric = np.zeros((2, 2, 2, 3))
    for joint in itertools.product((0, 1), repeat=3):
        for player, own in enumerate(joint):
            symmetric[(*joint, player)] = counts[own, sum(joint) - own]
    assert matrix.MatrixGame(symmetric).spec.symmetric
    skewed = symmetric.copy()
    skewed[0, 1, 0, 1] += 1
    assert not matrix.MatrixGame(skewed).spec.symmetric


def test_only_games_that_survive_an_exchange_of_seats_are_symmetric():
    symmetric = {name for name in matrix.PAYOFFS if registry.make(f"matrix/{name}").spec.symmetric}
    assert symmetric >= {"rock_paper_scissors", "prisoners_dilemma", "stag_hunt", "chicken", "penalty", "coordination"}
    assert not symmetric & {"matching_pennies", "shapley", "battle_of_the_sexes", "climbing"}


def test_a_symmetric_game_has_one_group_of_rivals():
    (group,) = registry.make("matrix/stag_hunt").spec.groups
    assert (group.size, group.rivals, group.teams) == (2, True, ("player_0", "player_1"))


@pytest.mark.parametrize("name", [name for name in matrix.NAMES if name != "custom"])
def test_steps_keep_shapes_and_types_under_vmap(name):
    env = registry.make(f"matrix/{name}")
    keys = jax.random.split(KEY, 3)
    state, shown = jax.jit(jax.vmap(env.reset))(keys)
    actions = {g.name: jnp.zeros((3, g.size), jnp.int32) for g in env.spec.groups}
    after, step = jax.jit(jax.vmap(env.step))(keys, state, actions)
    for before, later in ((shown, step), (state, after)):
        assert jax.tree.map(lambda x: (x.shape, x.dtype), before) == jax.tree.map(lambda x: (x.shape, x.dtype), later)


@pytest.mark.parametrize(
    ("payoffs", "word"),
    [
        (np.zeros((2, 2)), "shape"),
        (np.zeros((2, 2, 3)), "shape"),
        (np.zeros((2, 2, 2, 2)), "shape"),
        (np.zeros(3), "shape"),
        (np.full((2, 2, 2), np.nan), "NaN"),
        (np.full((2, 2, 2), np.inf), "infinite"),
    ],
)
def test_payoffs_of_the_wrong_form_are_refused(payoffs, word):
    with pytest.raises(UsageError, match=word):
        registry.make("matrix/custom", payoffs=payoffs)


def test_a_custom_game_without_payoffs_is_refused_with_an_example():
    with pytest.raises(UsageError, match="payoffs="):
        registry.make("matrix/custom")


@pytest.mark.parametrize("rounds", [0, -1])
def test_a_game_without_rounds_is_refused(rounds):
    with pytest.raises(UsageError, match="round"):
        registry.make("matrix/chicken", rounds=rounds)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("mpe/simple_spred", "mpe/simple_spread"),
        ("matrix/prisoner_dilemma", "matrix/prisoners_dilemma"),
        ("matrx/climbing", "matrix/climbing"),
        ("climbing", "matrix/climbing"),
    ],
)
def test_an_unknown_game_or_suite_names_the_nearest(wrong, right):
    with pytest.raises(UsageError, match=f"'{right}'"):
        registry.make(wrong)


@pytest.mark.parametrize(
    ("game", "wrong", "right"),
    [("matrix/climbing", "round", "rounds"), ("lbf/8x8-2p-2f", "timelimit", "time_limit")],
)
def test_an_unknown_option_names_the_nearest(game, wrong, right):
    with pytest.raises(UsageError, match=f"no option '{wrong}'.*'{right}'"):
        registry.make(game, **{wrong: 3})


def test_an_unknown_option_with_nothing_near_lists_what_there_is():
    with pytest.raises(UsageError, match="it takes: payoffs, penalty, rounds"):
        registry.make("matrix/climbing", zzz=1)
