"""Learners among frozen policies: who plays, what is learned from, what is recorded."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import ludus
from ludus.equilibria.normal_form import mixed_nash_conv
from ludus.experiment.league import resume_league
from ludus.experiment.league_results import match
from ludus.league.arena_device import DeviceArena
from ludus.league.league import over_seats
from ludus.league.learners import with_policies
from ludus.league.matchmaking import MetaStrategy
from ludus.league.member import Member
from ludus.league.rules import Every, Restart
from ludus.league.stored import pack, unpack
from ludus.networks.simple import RandomPolicy
from ludus.runtime.cast import LEARNER, Cast, Matches
from ludus.runtime.rollout import collect, init_actors
from ludus.runtime.tournament import Tournament
from ludus.storage.policy_store import PolicyStore

PPO = ludus.PPO(rollout_length=16)


def policies(env, count, group, seed=0):
    """Fresh policies, stacked."""
    keys = jax.random.split(jax.random.key(seed), count)
    return jax.vmap(lambda k: PPO.policy(PPO.init(env.spec, 1, key=k))[group])(keys)


def cast_of(env, slots, weights, seats=(0, 1), profiles=None, network=True):
    group = env.spec.groups[0].name
    stack = policies(env, slots, group)
    own = PPO.policy(PPO.init(env.spec, 1, key=jax.random.key(99)))
    rows = np.arange(slots)[:, None] if profiles is None else np.asarray(profiles)
    matches = Matches(jnp.asarray(rows, jnp.int32), jnp.asarray(weights), jnp.asarray(seats), jnp.zeros(2))
    return Cast({group: own[group]}, {group: stack}, matches, env.spec)


def played(env, cast, envs, length, seed=0):
    """A rollout, and who played which team at every step."""
    actors = init_actors(env, cast, jax.random.split(jax.random.key(seed), envs))
    found, who, begins = [], [], []
    step = jax.jit(lambda a: collect(env, cast, a, 1))
    for _ in range(length):
        begins.append(np.asarray(actors.start))
        actors, rollout, episodes = step(actors)
        who.append(np.asarray(cast.who(actors.pairing)))
        found.append((rollout, episodes))
    return found, np.array(who), np.array(begins)


@pytest.mark.parametrize("game", ["spiel/kuhn_poker", "matrix/rock_paper_scissors", "pgx/tic_tac_toe"])
def test_rows_are_decided_by_their_own_slots_policy(game):
    """Oracle: each environment's opponent asked by itself, with the same key."""
    env = ludus.make(game)
    group = env.spec.groups[0]
    cast = cast_of(env, 5, [0.1, 0.2, 0.3, 0.25, 0.15])
    actors = init_actors(env, cast, jax.random.split(jax.random.key(1), 37))
    pairing = cast.draw(actors.start, actors.pairing, actors.key)
    keys = jax.random.split(jax.random.key(2), 37)
    theirs = replace(cast, own={})
    found = theirs.decide(group, actors.step, ((), ()), keys, pairing, True)
    who = np.asarray(cast.who(pairing))
    for e in range(37):
        one = jax.tree.map(lambda x, e=e: x[e], actors.step)
        rows = keys[e : e + 1] if group.slots < group.size else jax.random.split(keys[e], group.size)
        movers = [int(one.seat[group.name][0])] if group.slots < group.size else range(group.size)
        for row, agent in enumerate(movers):
            slot = max(int(who[e, agent]), 0)
            policy = jax.tree.map(lambda x, s=slot: x[s], cast.frozen[group.name])
            legal = one.legal.get(group.name)
            seen = one.observation[group.name][row][None]
            alone = policy.act(
                seen,
                None if legal is None else legal[row][None],
                (),
                key=rows[row],
                explore=True,
                agent=jnp.array([agent]),
            )
            assert int(alone.action[0]) == int(found.action[e, row])
            np.testing.assert_allclose(alone.log_prob[0], found.log_prob[e, row], rtol=2e-4, atol=1e-5)


def test_a_learner_is_seated_in_every_episode_and_learns_from_its_own_moves_only():
    env = ludus.make("spiel/kuhn_poker")
    cast = cast_of(env, 3, [0.5, 0.3, 0.2])
    found, who, _ = played(env, cast, 24, 40)
    assert ((who == LEARNER).sum(-1) == 1).all()
    seats = np.argmax(who == LEARNER, -1)
    assert (seats == np.arange(24) % 2).all()
    for t, (rollout, _) in enumerate(found):
        group = rollout.groups["players"]
        acting, mover = np.asarray(group.acting[0]), np.asarray(group.seat[0, :, 0])
        assert (acting.sum(1) == (mover == seats[t])).all()
        assert not acting[np.arange(24), 1 - seats[t]].any()


def test_self_play_learns_from_both_seats():
    env = ludus.make("spiel/kuhn_poker")
    cast = cast_of(env, 2, [1.0, 0.0], profiles=[[LEARNER], [0]])
    found, who, _ = played(env, cast, 8, 6)
    assert (who == LEARNER).all()
    assert all(np.asarray(r.groups["players"].acting).sum() == 8 for r, _ in found)


def test_opponents_are_drawn_for_each_episode_and_never_change_within_one():
    env = ludus.make("spiel/kuhn_poker")
    weights = np.array([0.5, 0.25, 0.15, 0.1])
    cast = cast_of(env, 4, weights)
    _, who, begins = played(env, cast, 64, 120)
    opponent = who.max(-1)
    changed = opponent[1:] != opponent[:-1]
    assert not changed[~begins[1:]].any()
    drawn = opponent[begins]
    counts = np.bincount(drawn, minlength=4)
    assert stats.chisquare(counts, weights * counts.sum()).pvalue > 1e-3
    # from one episode to the next of an environment draws are independent
    pairs = np.zeros((4, 4))
    for e in range(64):
        own = opponent[begins[:, e], e]
        np.add.at(pairs, (own[:-1], own[1:]), 1)
    assert stats.chi2_contingency(pairs).pvalue > 1e-3


def test_records_are_the_episodes_that_were_played():
    env = ludus.make("spiel/kuhn_poker")
    cast = cast_of(env, 3, [0.4, 0.4, 0.2])
    actors = init_actors(env, cast, jax.random.split(jax.random.key(3), 32))
    _, rollout, episodes = jax.jit(lambda a: collect(env, cast, a, 50))(actors)
    records = jax.tree.map(np.asarray, episodes.records)
    assert records.games.sum() == episodes.count == np.asarray(rollout.terminated).sum()
    np.testing.assert_allclose(records.returns.sum(-1), 0, atol=1e-4)
    np.testing.assert_allclose(records.scores.sum(-1), records.games, rtol=1e-6)
    total = np.asarray(rollout.groups["players"].reward).sum((0, 1))
    np.testing.assert_allclose(records.returns.sum((0, 1)), total, atol=1e-3)


def test_recurrent_opponents_keep_their_memory_apart():
    """A frozen GRU policy in the cast plays as it does alone: same keys, same episodes."""
    recurrent = ludus.PPO(rollout_length=8, network=ludus.Network(memory="gru", memory_size=8))
    env = ludus.make("spiel/kuhn_poker")
    own = recurrent.policy(recurrent.init(env.spec, 1, key=jax.random.key(0)))["players"]
    stack = jax.tree.map(lambda x: jnp.stack([x, x]), own)
    matches = Matches(jnp.array([[1], [1]]), jnp.array([0.5, 0.5]), jnp.array([0, 1]), jnp.zeros(2))
    cast = Cast({"players": own}, {"players": stack}, matches, env.spec)
    keys = jax.random.split(jax.random.key(4), 16)
    run = jax.jit(lambda p: collect(env, p, init_actors(env, p, keys), 12)[1], static_argnums=())
    mixed, alone = run(cast), run({"players": own})
    np.testing.assert_allclose(mixed.groups["players"].log_prob, alone.groups["players"].log_prob, atol=1e-5)
    np.testing.assert_array_equal(mixed.groups["players"].action, alone.groups["players"].action)


def test_a_tournament_measures_what_exact_payoffs_are():
    env = ludus.make("spiel/kuhn_poker")
    arena = arena_of(env, roles="separate")
    for k in range(3):
        for role in ("player_0", "player_1"):
            arena.hold(f"{role}:{k}", role, arena.start(arena._members[role], k))
    profiles = [(f"player_0:{i}", f"player_1:{j}") for i in range(3) for j in range(3)]
    exact = arena.evaluate(profiles, 1, 0)
    played = arena._evaluator.played(profiles, 4000, 0)
    for a, b in zip(exact, played, strict=True):
        assert np.isinf(a.games) and b.games == 4000
        np.testing.assert_allclose(a.mean, b.mean, atol=4 * b.error.max())


def arena_of(env, roles="shared", steps=2048, algorithm=PPO, **options):
    names = {t: ("players" if roles == "shared" else t) for t in env.spec.teams}
    members = tuple(
        Member(r, r, algorithm, MetaStrategy(), Every(), Restart(), span="generation")
        for r in dict.fromkeys(names.values())
    )
    return DeviceArena(env, PolicyStore(None, unpack), names, members, steps, num_envs=32, **options)


def test_policies_survive_storage_and_take_over_a_learner():
    env = ludus.make("spiel/kuhn_poker")
    arena = arena_of(env)
    member = arena.members[0]
    first, second = (arena._fresh(member, s) for s in (1, 2))
    arrays, metadata = pack(PPO.policy(first), {"players": PPO.architecture(env.spec.groups[0])})
    found = unpack(arrays, metadata, "file")
    taken = with_policies(member, second, found)
    for a, b in zip(jax.tree.leaves(PPO.policy(taken)), jax.tree.leaves(PPO.policy(first)), strict=True):
        np.testing.assert_array_equal(a, b)
    critic = lambda x: jax.tree.leaves(x.shared["groups"]["players"].models.critic)
    assert all((a == b).all() for a, b in zip(critic(taken), critic(second), strict=True))


@pytest.mark.slow
def test_random_play_loses_to_what_was_trained_against_it():
    """A league of one generation against fresh, nearly uniform play, evaluated by hand."""
    run = ludus.league("self-play", "pgx/tic_tac_toe", oracle=PPO, generations=2, steps=150_000, num_envs=64, games=200)
    table, names = run.league.table, [e.name for e in run.league.population]
    assert table.between(names[-1], names[0])[1] > 0.65


@pytest.mark.slow
def test_psro_with_ppo_approaches_the_equilibrium_of_kuhn():
    run = ludus.league("psro", "spiel/kuhn_poker", generations=5, steps=60_000)
    gaps = [row["nash_conv"] for row in run.league.history]
    assert gaps[0] > 0.85 and gaps[-1] < 0.35
    assert len(run.league.population) >= 10


def test_teams_of_several_agents_in_groups_of_their_own():
    """Predators' population against the prey's: roles apart, several agents in a team, no exact payoffs."""
    quick = ludus.PPO(rollout_length=16, network=ludus.Network(hidden=(16,)))
    run = ludus.league("psro", "mpe/simple_tag", oracle=quick, generations=1, steps=1024, num_envs=16, games=20)
    assert {e.role for e in run.league.population} == set(run.env.spec.teams)
    assert run.league.history[-1]["nash_conv"] is None
    assert all(c.games >= 20 for p, c in run.league.table.cells.items() if not any(n.startswith("@") for n in p))


def test_three_players_and_alphastar_members(tmp_path):
    quick = ludus.PPO(rollout_length=8, network=ludus.Network(hidden=(16,)))
    three = "spiel/kuhn_poker(players=3)"
    settings = {"generations": 2, "steps": 1024, "num_envs": 16, "meta_solver": "cce", "run_dir": tmp_path / "run"}
    run = ludus.league("psro", three, oracle=quick, **settings)
    assert run.league.joint is not None and run.league.history[-1]["nash_conv"] > 0
    own, other, third = (run.league.population.of(role)[-1].name for role in run.env.spec.teams)
    [seating] = match(tmp_path / "run", own, other)["seatings"]
    assert seating["profile"] == [own, other, third]  # whom neither can play, the newest of the third role plays
    star = ludus.league("alphastar", "spiel/kuhn_poker", oracle=quick, generations=4, steps=1024, num_envs=16, period=1)
    assert {m.kind for m in star.plan.members} == {"main", "main-exploiter", "league-exploiter"}
    by = {name: star.league.population.frozen_by(name) for name in star.league.members}
    assert by["main"] == 4 and all(count >= 2 for count in by.values())


@pytest.mark.parametrize(
    "preset",
    ["delta-uniform", "fictitious-self-play", "pfsp", "anytime-psro", "alphastar-pseudocode", "openai-five"]
    + ["tstarbot", "scc", "pbt"],
)
def test_every_preset_runs(preset):
    quick = ludus.PPO(rollout_length=8, network=ludus.Network(hidden=(16,)))
    settings = {"oracle": quick, "steps": 512, "num_envs": 16, "period": 1}
    run = ludus.league(preset, "spiel/kuhn_poker", generations=3, **settings)
    assert run.league.generation == 3 and run.to_dict()["nash_conv"] > 0
    assert set(run.ratings()["elo"]) == {e.name for e in run.league.population}


@pytest.mark.optimised
@pytest.mark.parametrize("preset", ["anytime-psro", "openai-five", "scc"])
def test_leagues_whose_rules_remember_go_on_as_if_they_had_never_stopped(preset, tmp_path):
    """Weights, qualities and lines of descent are in the ledger: what follows is the same to the last bit."""
    quick = ludus.PPO(rollout_length=8, network=ludus.Network(hidden=(16,)))
    settings = {"oracle": quick, "steps": 512, "num_envs": 16, "period": 1, "generations": 4}
    whole = ludus.league(preset, "spiel/kuhn_poker", run_dir=tmp_path / "whole", **settings)

    def stop(generation):
        if generation.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ludus.league(preset, "spiel/kuhn_poker", run_dir=tmp_path / "cut", watch=stop, **settings)
    cut = resume_league(tmp_path / "cut")
    events = lambda run: [(e.key, json.dumps(e.body, sort_keys=True)) for e in run.league.ledger.events()]
    assert cut.league.generation == 4 and events(cut) == events(whole)
    if preset == "scc":  # exploiters branch from the main agent, and so do their lines in the tree
        found = [e for e in whole.league.population if "exploiter" in e.member]
        assert any((e.parent or "").startswith("main:") for e in found)


@pytest.mark.parametrize("flags", [{"pipeline": True, "mains": 2}, {"rectified": True}, {"meta_solver": "alpha-rank"}])
def test_variants_of_psro_run(flags):
    quick = ludus.PPO(rollout_length=8, network=ludus.Network(hidden=(16,)))
    run = ludus.league("psro", "spiel/kuhn_poker", oracle=quick, generations=3, steps=512, num_envs=16, **flags)
    assert run.league.generation == 3


@pytest.mark.parametrize("game", ["matrix/shapley", "matrix/rock_paper_scissors"])
def test_learners_in_one_shot_games_have_exact_payoffs_too(game):
    """Each player has a group of its own in the first game and one for both in the second. Oracle: probabilities of
    the stored policies times the payoffs."""
    quick = ludus.PPO(rollout_length=8, network=ludus.Network(hidden=(16,)))
    run = ludus.league("psro", game, oracle=quick, generations=2, steps=512, num_envs=16)
    league, spec = run.league, run.env.spec
    names = [league.population.of(run.roles[team])[-1].name for team in spec.teams]
    mixed = []
    for i, name in enumerate(names):
        [policy] = run.arena.policies(name).values()
        own = jnp.full((1, 1), 0 if len(spec.groups) > 1 else i)
        shown = policy.distribution(jnp.ones((1, 1, 1)), None, policy.initial_memory((1, 1)), explore=True, agent=own)
        mixed.append(np.exp(np.asarray(shown[0].log_probs))[0, 0])
    payoffs = np.asarray(run.env.payoffs, float)
    cell = league.table.cells[tuple(names)]
    np.testing.assert_allclose(cell.mean, np.einsum("i,j,ijk->k", *mixed, payoffs), atol=1e-5)
    found = run.arena.nash_conv({t: {n: 1.0} for t, n in zip(spec.teams, names, strict=True)}, None)
    assert found == pytest.approx(mixed_nash_conv(payoffs, mixed), abs=1e-5)
    assert league.history[-1]["nash_conv"] is not None


def test_many_members_of_one_architecture_are_one_program():
    quick = ludus.PPO(rollout_length=8, network=ludus.Network(hidden=(16,)))
    run = ludus.league("pbt", "spiel/kuhn_poker", oracle=quick, generations=2, steps=512, num_envs=16)
    assert [key[2] for key in run.arena._programs] == [1, 4]
    settings = [p.memory["settings"]["learning_rate"] for p in run.league.progress.values()]
    assert len(set(settings)) > 1


def test_tournaments_pad_what_is_no_multiple():
    env = ludus.make("matrix/rock_paper_scissors")
    group = env.spec.groups[0]
    stack = {group.name: policies(env, 2, group.name)}
    found = Tournament(env)(stack, np.array([[0, 1], [1, 0], [0, 0]]), 7, jax.random.key(0))
    assert found.games.sum() == 21
    np.testing.assert_allclose(found.scores.sum(-1)[:, 0], 7)


def test_random_policies_are_no_networks():
    """`stack` refuses what cannot play in one program, in a sentence."""
    from ludus.league.learners import stack

    env = ludus.make("spiel/kuhn_poker")
    own = PPO.policy(PPO.init(env.spec, 1, key=jax.random.key(0)))["players"]
    with pytest.raises(ludus.UsageError, match="differ in their networks"):
        stack([own, RandomPolicy(env.spec.groups[0])], 2, "players")


def test_the_ledger_counts_opponents_as_often_as_they_were_drawn():
    """Episodes of one step, so that all of those drawn also end: counts are multinomial with the match's weights."""
    quick = ludus.PPO(rollout_length=16, network=ludus.Network(hidden=(8,)))
    run = ludus.league(
        "fictitious-self-play", "matrix/rock_paper_scissors", oracle=quick, generations=4, steps=4096, num_envs=32
    )
    for event in run.league.ledger.events("training"):
        weights = {tuple(p): w for p, w in event.body["matches"]}
        games = dict.fromkeys(weights, 0.0)
        for profile, count, *_ in event.body["cells"]:
            [other] = [n for n in profile if not n.startswith("@")]
            games[(other,)] += count
        assert sum(games.values()) == event.body["steps"]
        if len(games) > 1:
            expected = [weights[p] * event.body["steps"] for p in games]
            assert stats.chisquare(list(games.values()), expected).pvalue > 1e-3


def test_payoffs_between_frozen_policies_are_exact_where_they_can_be():
    """What a learner earned while it learned is not what its frozen policy earns."""
    run = ludus.league("psro", "spiel/kuhn_poker", oracle=PPO, generations=2, steps=2048, num_envs=32)
    frozen = {p: c for p, c in run.league.table.cells.items() if not any(n.startswith("@") for n in p)}
    assert len(frozen) == 9 and all(np.isinf(c.games) for c in frozen.values())


def test_shared_roles_play_an_equilibrium_of_the_game_whose_seats_are_drawn():
    run = ludus.league("psro", "spiel/kuhn_poker", oracle=PPO, generations=3, steps=2048, num_envs=32, roles="shared")
    names = [e.name for e in run.league.population]
    payoffs = over_seats(run.league.table.tensor([names, names])[0])
    mixture = np.array([run.league.mixtures["player_0"].get(n, 0.0) for n in names])
    assert run.league.mixtures["player_0"] == run.league.mixtures["player_1"]
    assert (payoffs[..., 0] @ mixture).max() < 1e-6


def test_rules_that_start_from_a_damaged_policy_go_on_without_it(tmp_path):
    quick = ludus.PPO(rollout_length=8, network=ludus.Network(hidden=(16,)))
    settings = {"steps": 512, "num_envs": 16, "rectified": True}
    run = ludus.league("psro", "spiel/kuhn_poker", oracle=quick, generations=1, run_dir=tmp_path / "run", **settings)
    heaviest = max(run.league.mixtures["player_0"].items(), key=lambda x: x[1])[0]
    path = run.store.path(run.league.population.entries[heaviest].file)
    path.write_bytes(path.read_bytes()[:-1])
    warnings = []
    again = resume_league(tmp_path / "run", generations=2, say=warnings.append)
    assert again.league.generation == 2 and any(heaviest in text for text in warnings)
    assert heaviest not in again.league.mixtures["player_0"]
