"""Solvers of trees against known values, and the building blocks under them against loops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ludus.core.errors import UsageError
from ludus.core.tree import GameTree, tree_of_payoffs
from ludus.envs.matrix import PAYOFFS
from ludus.envs.spiel_tree import compile_tree
from ludus.equilibria import exact
from ludus.equilibria.cfr import CFR, advantages, match_regrets
from ludus.equilibria.double_oracle import double_oracle
from ludus.equilibria.gather_sum import GatherSum
from ludus.equilibria.mirror_descent import MMD
from ludus.equilibria.monte_carlo import MCCFR, TreeArrays
from ludus.equilibria.sequence_form import sequence_form


def run(solver, subject, state, iterations):
    loop = jax.jit(lambda s: jax.lax.fori_loop(0, iterations, lambda _, x: solver.step(subject, x), s))
    return loop(state)


@pytest.mark.parametrize("seed", range(30))
def test_gather_sum_is_a_segment_sum(seed):
    rng = np.random.default_rng(seed)
    segments, entries = int(rng.integers(1, 40)), int(rng.integers(1, 400))
    segment = rng.integers(-1, segments, entries) if seed % 2 else np.sort(rng.geometric(0.2, entries) % segments)
    values = rng.normal(size=entries)
    expected = np.zeros(segments)
    np.add.at(expected, segment[segment >= 0], values[segment >= 0])
    found = GatherSum.of(segment, segments)(jnp.asarray(values))
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("solver", "bound"),
    [
        (CFR(), 0.0019),
        (CFR(plus=True, linear=True), 0.00018),
        (CFR(discounts=(1.0, 1.0, 1.0)), 0.002),
        (CFR(discounts=(1.5, 0.0, 2.0)), 0.0005),
    ],
)
def test_cfr_family_solves_kuhn(solver, bound):
    game = sequence_form(compile_tree("kuhn_poker"))
    state = run(solver, game, solver.init(game), 1000)
    average = solver.average(game, state)
    assert exact.nash_conv(game, average) < bound
    np.testing.assert_allclose(exact.expected_returns(game, average)[0], -1 / 18, atol=bound)


def test_cfr_plus_finds_the_value_of_leduc():
    game, solver = sequence_form(compile_tree("leduc_poker")), CFR(plus=True, linear=True)
    average = solver.average(game, run(solver, game, solver.init(game), 2000))
    np.testing.assert_allclose(exact.expected_returns(game, average)[0], -0.085606424, atol=1e-4)


def test_mirror_descent_reaches_the_quantal_response_equilibrium_of_kuhn():
    game = sequence_form(compile_tree("kuhn_poker"))
    solver = MMD(temperature=0.1, step_size=0.9)
    plans = game.plans(solver.average(game, run(solver, game, solver.init(game), 1000)))
    # Sequences by information set (Gambit's equilibrium, as OpenSpiel's test has it).
    first = [0.75364, 0.24636, 0.70310, 0.29690, 0.47547, 0.52453, 0.64696, 0.10668, 0.25609, 0.44701, 0.01291, 0.46256]
    second = [
        0.63416,
        0.36584,
        0.41155,
        0.58845,
        0.28438,
        0.71562,
        0.06202,
        0.93798,
        0.65005,
        0.34995,
        0.79723,
        0.20277,
    ]
    np.testing.assert_allclose(plans[0][:-1], first, atol=1e-5)
    np.testing.assert_allclose(plans[1][:-1], second, atol=1e-5)
    further = game.plans(solver.average(game, run(solver, game, solver.init(game), 1500)))
    for a, b in zip(plans, further, strict=True):  # it has converged
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_annealed_mirror_descent_approaches_nash():
    game, solver = sequence_form(compile_tree("kuhn_poker")), MMD(temperature=1.0, anneal=True)
    gaps = [
        float(exact.nash_conv(game, solver.average(game, run(solver, game, solver.init(game), n)))) for n in (100, 2000)
    ]
    assert gaps[1] < 0.05 < gaps[0]


def test_double_oracle_solves_rock_paper_scissors_in_three_iterations_and_kuhn_in_eight():
    rps = sequence_form(tree_of_payoffs(PAYOFFS["rock_paper_scissors"], "rps"))
    found = list(double_oracle(rps))
    assert [r.payoff.shape for r in found] == [(1, 1), (2, 2), (3, 3)]
    np.testing.assert_allclose(found[-1].mixtures, np.full((2, 3), 1 / 3), atol=1e-9)
    kuhn = sequence_form(compile_tree("kuhn_poker"))
    found = list(double_oracle(kuhn))
    gaps = [r.nash_conv for r in found]
    np.testing.assert_allclose(gaps, [2, 2.5, 1, 1 / 3, 0.23, 0.222222, 0.135417, 0], atol=1e-5)
    assert found[-1].payoff.shape == (8, 8)
    np.testing.assert_allclose(found[-1].mixtures[0] @ found[-1].payoff @ found[-1].mixtures[1], -1 / 18, atol=1e-9)


@pytest.mark.parametrize("sampling", ["external", "outcome"])
@pytest.mark.parametrize("name", ["kuhn_poker", "kuhn_poker(players=3)"])
def test_sampled_regrets_are_unbiased(sampling, name):
    """The mean of many samples' regrets is the full traversal's."""
    tree = compile_tree(name)
    game, arrays = sequence_form(tree), TreeArrays.of(tree)
    solver = MCCFR(sampling, batch=1 << 16)
    rng = np.random.default_rng(0)
    state = solver.init(arrays, jax.random.key(0))
    state = type(state)(jnp.asarray(rng.uniform(0.5, 1.5, state.regret.shape)), state.total, state.key, state.iteration)
    regrets = jax.jit(lambda s: solver.step(arrays, s).regret)(state)
    sampled = (np.asarray(regrets) - np.asarray(state.regret)) / solver.batch
    # The full traversal of the player who updates first; later players see his new strategy.
    side = game.sides[0]
    strategies = [match_regrets(s, state.regret[s.infosets]) for s in game.sides]
    expected = advantages(side, game.gradient(0, game.plans(tuple(strategies))), strategies[0])
    np.testing.assert_allclose(sampled[np.asarray(side.infosets)], expected, atol=0.02)


@pytest.mark.parametrize(("sampling", "batch", "bound"), [("external", 16, 0.06), ("outcome", 64, 0.08)])
def test_sampling_solves_kuhn(sampling, batch, bound):
    tree = compile_tree("kuhn_poker")
    game, arrays, solver = sequence_form(tree), TreeArrays.of(tree), MCCFR(sampling, batch=batch)
    state = run(solver, arrays, solver.init(arrays, jax.random.key(1)), 1000)
    table = solver.average(arrays, state)
    assert exact.nash_conv(game, tuple(table[s.infosets] for s in game.sides)) < bound


def test_forgetful_players_and_broken_trees_are_refused():
    tree = compile_tree("kuhn_poker")
    fields = {k: getattr(tree, k) for k in tree.__dataclass_fields__}
    merged = tree.infoset.copy()
    own = np.flatnonzero(tree.player == 0)
    early, late = own[0], own[-1]
    merged[late] = tree.infoset[early]
    with pytest.raises(UsageError, match="forgets"):
        sequence_form(GameTree(**{**fields, "infoset": merged}))
    broken = tree.utility.copy()
    broken[-1, 0] = np.nan
    with pytest.raises(UsageError, match=f"NaN or infinite at node {tree.num_nodes - 1}"):
        sequence_form(GameTree(**{**fields, "utility": broken}))
    with pytest.raises(UsageError, match="add up to 1"):
        sequence_form(GameTree(**{**fields, "chance": tree.chance * 0.9}))
