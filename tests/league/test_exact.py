"""Leagues of exact best responses against known sequences, and against OpenSpiel's own."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import ludus
from ludus.equilibria.exact import nash_conv
from ludus.equilibria.fictitious_play import XFP
from ludus.equilibria.normal_form import joint_nash_conv
from ludus.equilibria.sequence_form import sequence_form
from ludus.league import arena_exact
from ludus.league.league import League
from ludus.storage.ledger import Ledger


def curve(preset, game, **settings):
    run = ludus.league(preset, game, oracle="exact", **settings)
    return [row["nash_conv"] for row in run.league.history], run


def test_double_oracle_solves_rock_paper_scissors_in_three_iterations():
    gaps, run = curve("double-oracle", "matrix/rock_paper_scissors")
    np.testing.assert_allclose(gaps[:3], [2, 2, 0], atol=1e-9)
    for mixture in run.league.mixtures.values():
        np.testing.assert_allclose(sorted(mixture.values()), [1 / 3] * 3)


def test_double_oracle_on_kuhn_is_that_of_the_normal_form():
    """Eight iterations from the first pure strategies, with these gaps, to 8 × 8 policies and the game's value."""
    gaps, run = curve("psro", "spiel/kuhn_poker")
    np.testing.assert_allclose(gaps[:8], [2, 2.5, 1, 0.333, 0.23, 0.222, 0.135, 0], atol=5e-4)
    at_eight = [e for e in run.league.population if e.generation <= 7]
    assert sum(e.role == "player_0" for e in at_eight) == sum(e.role == "player_1" for e in at_eight) == 8
    assert run.league.finished
    names = [[e.name for e in at_eight if e.role == role] for role in ("player_0", "player_1")]
    payoffs, games = run.league.table.tensor(names)
    assert np.isinf(games).all()
    x, y = (np.array([run.league.mixtures[t].get(n, 0) for n in own]) for t, own in zip(run.roles, names, strict=True))
    assert x @ payoffs[..., 0] @ y == pytest.approx(-1 / 18, abs=1e-9)


def test_best_responses_to_the_last_cycle_for_ever():
    gaps, run = curve("psro", "matrix/rock_paper_scissors", meta_solver="last", generations=12)
    np.testing.assert_allclose(gaps, 2)
    assert len(run.league.population) == 6  # three each, again and again
    played = [next(iter(h["mixtures"]["player_0"])) for h in run.league.history]
    assert len(set(played)) == 3 and played[3:] == played[:-3]


def test_fictitious_self_play_follows_xfp():
    """Plans averaged uniformly over best responses, uniform play being the first. Oracles: OpenSpiel's first two
    iterations (later ones depend on how rounding breaks ties), and XFP itself."""
    game = sequence_form(ludus.make("spiel/kuhn_poker").tree, np.float32)
    method = XFP()
    state, expected = method.init(game), []
    for _ in range(6):
        expected.append(float(nash_conv(game, method.average(game, state))))
        state = method.step(game, state)
    gaps, _ = curve("fictitious-self-play", "spiel/kuhn_poker", first="uniform", generations=20)
    np.testing.assert_allclose(gaps[1:3], [0.625, 0.41667], atol=1e-5)
    np.testing.assert_allclose(gaps[:6], expected, atol=1e-5)
    assert gaps[20] < 0.12


def test_shapleys_game_keeps_fictitious_play_from_its_equilibrium():
    gaps, _ = curve("fictitious-self-play", "matrix/shapley", generations=10_000)
    assert gaps[-1] == pytest.approx(0.287, abs=0.01)
    assert min(gaps[2000:]) > 0.25


@pytest.mark.parametrize("solver", ["nash", "cce"])
def test_joint_psro_finds_an_equilibrium_of_three_players(solver):
    """Oracle: the gap is computed in the whole game; Nash for three players has no guarantee, CCE does."""
    gaps, run = curve("psro", "spiel/kuhn_poker(players=3)", meta_solver=solver, first="uniform", generations=15)
    assert gaps[-1] < (0.5 if solver == "nash" else 0.02)
    assert (run.league.joint is not None) == (solver != "nash")


def test_joint_psro_correlates_a_general_sum_game():
    """Chicken: all but (dare, dare) is played, and nobody gains by leaving the joint strategy."""
    gaps, run = curve("psro", "matrix/chicken", meta_solver="ce", generations=5)
    assert gaps[-1] == pytest.approx(0, abs=1e-6)
    assert len(run.league.joint) >= 2


def test_plans_in_memory_stay_few_and_change_nothing(monkeypatch):
    """With room for two plans beside those that a call needs, a league finds what it finds with room for all."""
    settings = {"generations": 8, "first": "uniform"}
    free, _ = curve("psro", "spiel/kuhn_poker", **settings)
    monkeypatch.setattr(arena_exact, "MOST_PLANS", 2)
    tight, run = curve("psro", "spiel/kuhn_poker", **settings)
    assert tight == free
    run.arena._know([])
    assert len(run.arena.payoffs.plans) == 2 < len(run.league.population)


def test_the_gap_of_a_correlated_equilibrium_is_that_of_those_who_were_told(tmp_path):
    """Chicken. Half (dare, dare) and half (swerve, swerve): who leaves it for one action whatever it is told gains
    nothing worth more than who may answer each of the two by itself. Oracle: `joint_nash_conv` of the payoffs."""
    run = ludus.league("psro", "matrix/chicken", oracle="exact", meta_solver="ce", generations=5)
    names = [[e.name for e in run.league.population.of(run.roles[t])] for t in run.env.spec.teams]
    payoffs, _ = run.league.table.tensor(names)
    joint = np.zeros(payoffs.shape[:-1])
    joint[0, 0] = joint[1, 1] = 0.5
    as_dict = {(names[0][k], names[1][k]): 0.5 for k in (0, 1)}
    mixtures = {t: dict.fromkeys(own, 0.5) for t, own in zip(run.env.spec.teams, names, strict=True)}
    for told in (False, True):
        found = run.arena.nash_conv(mixtures, as_dict, told)
        assert found == pytest.approx(joint_nash_conv(payoffs, joint, coarse=not told), abs=1e-6)


def test_the_anytime_mixture_never_gets_worse():
    """Regret matching finds the least exploitable mixture up to its own error; plain PSRO rises again and again."""
    gaps, _ = curve("anytime-psro", "spiel/leduc_poker", first="uniform", generations=12)
    plain, _ = curve("psro", "spiel/leduc_poker", first="uniform", generations=12)
    assert max(b - a for a, b in itertools.pairwise(gaps)) < 0.1
    assert max(b - a for a, b in itertools.pairwise(plain)) > 0.5
    assert gaps[-1] < plain[-1]


@pytest.mark.parametrize("game", ["kuhn_poker", "leduc_poker"])
@pytest.mark.parametrize("solver", ["uniform", "nash"])
def test_iterations_are_those_of_openspiel(game, solver):
    """Oracle: OpenSpiel's best responses and expected returns, its own mixture of policies, the same solver."""
    pyspiel = pytest.importorskip("pyspiel")
    from open_spiel.python import policy as policies
    from open_spiel.python.algorithms import best_response, expected_game_score, exploitability, policy_aggregator

    from ludus.equilibria.normal_form import solve_zero_sum

    spiel = pyspiel.load_game(game)
    own = [[policies.UniformRandomPolicy(spiel)] for _ in range(2)]
    iterations = 6 if game == "kuhn_poker" else 3
    expected = []
    for k in range(iterations):
        value = lambda a, b: expected_game_score.policy_value(spiel.new_initial_state(), [a, b])[0]
        matrix = np.array([[value(a, b) for b in own[1]] for a in own[0]])
        if solver == "uniform":
            mixtures = [np.full(len(p), 1 / len(p)) for p in own]
        else:
            mixtures = list(solve_zero_sum(matrix)[:2])
        mixed = policy_aggregator.PolicyAggregator(spiel).aggregate(range(2), own, mixtures)
        expected.append(exploitability.nash_conv(spiel, mixed))
        if k + 1 < iterations:
            found = [respond(policies, best_response.BestResponsePolicy(spiel, i, mixed), spiel, i) for i in range(2)]
            for i, table in enumerate(found):
                own[i].append(table)
    gaps, _ = curve("psro", f"spiel/{game}", meta_solver=solver, first="uniform", generations=iterations)
    np.testing.assert_allclose(gaps[:iterations], expected, atol=1e-6)


def respond(policies, response, spiel, player):
    """OpenSpiel's action values as a policy; of actions that are equal up to rounding the first, as in Ludus."""
    table = policies.TabularPolicy(spiel, players=(player,))
    for index, state in enumerate(table.states):
        reached = response.infosets.get(state.information_state_string(player), [])
        actions = state.legal_actions(player)
        values = [sum(p * response.q_value(s, a) for s, p in reached) for a in actions]
        best = next(a for a, v in zip(actions, values, strict=True) if v >= max(values) - 1e-9)
        table.action_probability_array[index] = 0
        table.action_probability_array[index, best] = 1
    return table


def test_a_league_is_what_its_ledger_says(tmp_path):
    run = ludus.league("psro", "spiel/kuhn_poker", oracle="exact", run_dir=tmp_path / "run")
    again = ludus.open_league(tmp_path / "run")
    assert again.league.table.cells.keys() == run.league.table.cells.keys()
    assert again.league.mixtures == run.league.mixtures
    assert [e.name for e in again.league.population] == [e.name for e in run.league.population]
    assert again.to_dict() == {**run.to_dict()}
    Ledger(tmp_path / "run" / "ledger.sqlite", read_only=True).verify()


def test_exact_leagues_resume_to_the_same_hash(tmp_path):
    whole = ludus.league("psro", "spiel/kuhn_poker", oracle="exact", run_dir=tmp_path / "a")
    part = ludus.league("psro", "spiel/kuhn_poker", oracle="exact", run_dir=tmp_path / "b", generations=4)
    assert part.league.generation == 4
    from ludus.experiment.league import resume_league

    rest = resume_league(tmp_path / "b", generations=10)
    assert isinstance(rest.league, League)
    assert rest.league.ledger.head == whole.league.ledger.head
    assert rest.to_dict()["nash_conv"] == whole.to_dict()["nash_conv"]


def test_games_without_a_tree_are_refused():
    with pytest.raises(ludus.UsageError, match="--oracle ppo"):
        ludus.league("double-oracle", "pgx/tic_tac_toe")
    with pytest.raises(ludus.UsageError, match="every player needs a population"):
        ludus.league("psro", "spiel/kuhn_poker", oracle="exact", roles="shared")


def test_naive_self_play_with_best_responses_cycles_and_needs_no_meta_strategy():
    """Rock, paper, scissors, rock, …: each generation beats the one before, and nobody is ever less exploitable."""
    gaps, run = curve("self-play", "matrix/rock_paper_scissors", generations=12)
    np.testing.assert_allclose(gaps, 2)
    played = [next(iter(h["mixtures"]["player_0"])) for h in run.league.history]
    assert len(set(played)) == 3 and played[3:] == played[:-3]


@pytest.mark.parametrize("preset", ["psro", "self-play"])
def test_a_damaged_newest_policy_is_not_the_end_of_an_exact_league(tmp_path, preset):
    """In self-play it is also what `@member` stands for."""
    from ludus.experiment.league import resume_league

    settings = {"oracle": "exact", "meta_solver": "last", "run_dir": tmp_path / "run"}
    run = ludus.league(preset, "spiel/kuhn_poker", generations=2, **settings)
    [newest] = run.league.mixtures["player_0"]
    path = run.store.path(run.league.population.entries[newest].file)
    path.write_bytes(path.read_bytes()[:-1])
    warnings = []
    again = resume_league(tmp_path / "run", generations=3, say=warnings.append)
    assert again.league.generation == 3 and any(newest in text for text in warnings)
