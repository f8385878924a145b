"""Normal-form solvers against known answers, linear programs and nashpy."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import nashpy
import numpy as np
import pytest

from ludus.core.errors import UsageError
from ludus.core.payoffs import check_payoffs
from ludus.envs.matrix import PAYOFFS
from ludus.equilibria import dynamics, stage_games
from ludus.equilibria import normal_form as nf
from ludus.equilibria.alpha_rank import alpha_rank, alpha_rank_symmetric

SHAPLEY, RPS = PAYOFFS["shapley"], PAYOFFS["rock_paper_scissors"]
SADDLE = np.array([[3.0, -1.0], [-1.0, 1.0]])
ZERO_SUM = [
    ([[1, -1], [-1, 1]], 0, (1 / 2, 1 / 2), (1 / 2, 1 / 2)),
    ([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], 0, (1 / 3,) * 3, (1 / 3,) * 3),
    (SADDLE, 1 / 3, (1 / 3, 2 / 3), (1 / 3, 2 / 3)),
    ([[0, -0.25, 0.5], [0.25, 0, -0.05], [-0.5, 0.05, 0]], 0, (1 / 16, 10 / 16, 5 / 16), (1 / 16, 10 / 16, 5 / 16)),
    ([[2, 1, 5], [-3, -4, -2]], 1, (1, 0), (0, 1, 0)),
]


def zero_sum(matrix):
    matrix = np.asarray(matrix, float)
    return np.stack([matrix, -matrix], -1)


@pytest.mark.parametrize(("matrix", "value", "row", "column"), ZERO_SUM)
def test_known_zero_sum_games(matrix, value, row, column):
    for found in (
        nf.solve_zero_sum(np.asarray(matrix)),
        [stage_games.zero_sum_value(jnp.asarray(matrix, float))[k] for k in (1, 2, 0)],
    ):
        np.testing.assert_allclose(found[0], row, atol=1e-6)
        np.testing.assert_allclose(found[1], column, atol=1e-6)
        np.testing.assert_allclose(found[2], value, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (2, 2), (3, 5), (5, 5)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_stage_values_equal_the_linear_program(shape, dtype):
    rng = np.random.default_rng(0)
    games = np.concatenate([rng.normal(size=(32, *shape)), rng.integers(-2, 3, (32, *shape)) * 100.0])
    values, x, y = jax.jit(jax.vmap(stage_games.zero_sum_value))(jnp.asarray(games, dtype))
    slack = {"float64": 1e-8, "float32": 1e-4}[dtype]
    for k, game in enumerate(games):
        _, _, value = nf.solve_zero_sum(game)
        scale = max(1.0, np.abs(game).max())
        np.testing.assert_allclose(values[k], value, atol=slack * scale)
        assert (np.asarray(x[k], float) @ game).min() >= value - slack * scale
        assert (game @ np.asarray(y[k], float)).max() <= value + slack * scale


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (3, 4), (4, 4)])
def test_general_sum_solvers_agree_with_nashpy(shape):
    rng = np.random.default_rng(1)
    rows, columns = rng.normal(size=(2, 12, *shape))
    x, y, u, v = jax.jit(jax.vmap(stage_games.general_sum_equilibrium))(jnp.asarray(rows), jnp.asarray(columns))
    for k, (row, column) in enumerate(zip(rows, columns, strict=True)):
        payoffs = np.stack([row, column], -1)
        ours = list(nf.support_enumeration(row, column))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = list(nashpy.Game(row, column).support_enumeration())
        assert len(ours) % 2 == 1  # Wilson 1971
        for p, q in theirs:
            assert any(np.allclose(p, a, atol=1e-6) and np.allclose(q, b, atol=1e-6) for a, b in ours)
        assert nf.mixed_nash_conv(payoffs, [np.asarray(x[k]), np.asarray(y[k])]) < 1e-7
        np.testing.assert_allclose(u[k] + v[k], max(p @ (row + column) @ q for p, q in ours), atol=1e-7)
        for label in range(sum(shape)):
            assert nf.mixed_nash_conv(payoffs, list(nf.lemke_howson(row, column, label))) < 1e-7


@pytest.mark.parametrize("seed", range(20))
def test_degenerate_games_are_solved(seed):
    rng = np.random.default_rng(seed)
    row, column = rng.integers(0, 3, (2, 3, 4)).astype(float)
    payoffs = np.stack([row, column], -1)
    for label in range(7):
        assert nf.mixed_nash_conv(payoffs, list(nf.lemke_howson(row, column, label))) < 1e-7
    x, y, _, _ = stage_games.general_sum_equilibrium(jnp.asarray(row), jnp.asarray(column))
    assert nf.mixed_nash_conv(payoffs, [np.asarray(x), np.asarray(y)]) < 1e-7


def test_known_general_sum_games():
    found = list(nf.support_enumeration(PAYOFFS["prisoners_dilemma"][..., 0], PAYOFFS["prisoners_dilemma"][..., 1]))
    assert len(found) == 1
    np.testing.assert_allclose(found[0], [[0, 1], [0, 1]])
    hunt = PAYOFFS["stag_hunt"]
    values = sorted(
        float(nf.mixed_returns(hunt, list(pair))[0]) for pair in nf.support_enumeration(hunt[..., 0], hunt[..., 1])
    )
    np.testing.assert_allclose(values, [2, 2.5, 4])
    np.testing.assert_allclose(nf.lemke_howson(SHAPLEY[..., 0], SHAPLEY[..., 1]), np.full((2, 3), 1 / 3), atol=1e-9)


def test_fictitious_play_converges_in_zero_sum_games_and_cycles_in_shapleys():
    gap = lambda payoffs, n: float(
        nf.mixed_nash_conv(jnp.asarray(payoffs), dynamics.fictitious_play(jnp.asarray(payoffs), n))
    )
    pennies = PAYOFFS["matching_pennies"]
    np.testing.assert_allclose([gap(pennies, n) for n in (100, 1000, 10_000)], [0.14, 0.044, 0.014], atol=5e-4)
    np.testing.assert_allclose([gap(RPS, n) for n in (100, 1000, 10_000)], [0.14, 0.042, 0.0134], atol=5e-4)
    np.testing.assert_allclose([gap(SHAPLEY, n) for n in (10_000, 100_000)], 0.287, atol=0.01)


def test_mirror_step_and_quantal_response():
    step = dynamics.mirror_step(
        jnp.asarray(RPS, float), (jnp.array([0.2, 0.2, 0.6]), jnp.array([0.5, 0.2, 0.3])), 0.5, 0.5
    )
    np.testing.assert_allclose(step[0], [0.244322, 0.254293, 0.501386], atol=1e-6)
    np.testing.assert_allclose(step[1], [0.522149, 0.182166, 0.295684], atol=1e-6)
    game = jnp.asarray(zero_sum(SADDLE))
    for temperature, row, column in ((1.0, 0.4661, 0.3107), (0.2, 0.3594, 0.3141)):
        x, y = dynamics.logit_qre(game, temperature)
        np.testing.assert_allclose([x[0], y[0]], [row, column], atol=1e-4)
        for i, mixture in enumerate((x, y)):  # the fixed point, to 1e-6
            response = jax.nn.softmax(nf.action_values(game, (x, y), i) / temperature)
            np.testing.assert_allclose(mixture, response, atol=1e-6)
    np.testing.assert_allclose(dynamics.logit_qre(jnp.asarray(RPS, float), 0.05)[0], np.full(3, 1 / 3), atol=1e-6)


def test_regret_matching_and_replicator_approach_nash():
    game = jnp.asarray(zero_sum(SADDLE))
    assert nf.mixed_nash_conv(game, dynamics.regret_matching(game, 10_000)) < 0.05
    assert nf.mixed_nash_conv(game, dynamics.regret_matching(game, 10_000, plus=True)) < 0.01
    found = dynamics.replicator(game, dynamics.uniform(game), 50_000, average=True)
    assert nf.mixed_nash_conv(game, found) < 0.03
    projected = dynamics.replicator(game, dynamics.uniform(game), 50_000, floor=0.01, average=True)
    assert min(x.min() for x in projected) >= 0.01


def test_projection_is_the_nearest_point():
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, floor = rng.normal(size=4), 0.05
        found = np.asarray(dynamics.project(jnp.asarray(x), floor))
        np.testing.assert_allclose(found.sum(), 1)
        assert found.min() >= floor - 1e-12
        others = rng.dirichlet(np.ones(4), 200) * (1 - 4 * floor) + floor
        assert (np.linalg.norm(others - x, axis=1) >= np.linalg.norm(found - x) - 1e-9).all()


def test_alpha_rank_reproduces_published_examples():
    for alpha in (0.1, 1.0, 10.0):
        np.testing.assert_allclose(alpha_rank_symmetric(RPS[..., 0], alpha=alpha), np.full(3, 1 / 3), atol=1e-6)
    np.testing.assert_allclose(alpha_rank_symmetric([[5, 0], [10, 1]], alpha=1.0), [0, 1], atol=1e-6)
    beats_all = np.array([[0, -1, 1, -1], [1, 0, -1, -1], [-1, 1, 0, -1], [1, 1, 1, 0]])
    np.testing.assert_allclose(alpha_rank_symmetric(beats_all, alpha=10.0), [0, 0, 0, 1], atol=1e-6)
    biased = np.array([[0, -25, 50], [25, 0, -5], [-50, 5, 0]])
    np.testing.assert_allclose(alpha_rank_symmetric(biased, alpha=0.1), [0.2805, 0.4408, 0.2787], atol=1e-4)
    np.testing.assert_allclose(alpha_rank_symmetric(biased, alpha=1.0), np.full(3, 1 / 3), atol=1e-4)
    sexes = alpha_rank(PAYOFFS["battle_of_the_sexes"], alpha=0.1)
    np.testing.assert_allclose(np.diag(sexes), [0.5, 0.5], atol=5e-3)
    np.testing.assert_allclose(np.diag(alpha_rank(PAYOFFS["battle_of_the_sexes"], alpha=10.0)), [0.5, 0.5], atol=1e-6)


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("select", ["welfare", "entropy"])
def test_correlated_equilibria_leave_nothing_to_gain(coarse, select):
    rng = np.random.default_rng(0)
    for payoffs in (PAYOFFS["chicken"], SHAPLEY, rng.normal(size=(3, 2, 2, 3))):
        joint = nf.correlated_equilibrium(payoffs, coarse=coarse, select=select)
        np.testing.assert_allclose(joint.sum(), 1)
        assert nf.joint_nash_conv(payoffs, joint, coarse=coarse) < 1e-6
    welfare = nf.correlated_equilibrium(SHAPLEY, coarse=coarse, select=select)
    if select == "welfare":  # never the cells that pay nobody: twice the Nash equilibrium's welfare of 2/3
        np.testing.assert_allclose((welfare[..., None] * SHAPLEY).sum(), 1.0, atol=1e-9)


def test_batched_correlated_equilibrium_equals_the_linear_program():
    rng = np.random.default_rng(2)
    games = rng.normal(size=(24, 3, 3, 2))
    joints = jax.jit(jax.vmap(stage_games.correlated_equilibrium))(jnp.asarray(games))
    for game, joint in zip(games, np.asarray(joints), strict=True):
        assert nf.joint_nash_conv(game, joint, coarse=False) < 1e-8
        best = nf.correlated_equilibrium(game)
        np.testing.assert_allclose((joint[..., None] * game).sum(), (best[..., None] * game).sum(), atol=1e-7)


@pytest.mark.parametrize(
    ("payoffs", "words"),
    [
        ([[1, 2], [3, 4]], "1 action axes and 2 payoffs"),
        (np.zeros((2, 2, 3)), "2 action axes and 3 payoffs"),
        ([[[1, np.nan], [0, 0]], [[0, 0], [0, 0]]], r"NaN or infinite entries, as at \(0, 0, 1\)"),
        ([[[1, 2], [0]], [[0, 0], [0, 0]]], "numbers in equal rows"),
        (3.0, "0 action axes"),
    ],
)
def test_bad_payoffs_get_a_sentence(payoffs, words):
    with pytest.raises(UsageError, match=words):
        check_payoffs(payoffs)
