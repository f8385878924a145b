"""The command line as a person meets it: every command, and every mistake."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ludus import __version__
from ludus.core.errors import UsageError
from ludus.envs.registry import make
from ludus.experiment.api import policies_of
from ludus.runtime.setup import available

RPS = "matrix/rock_paper_scissors"
TINY = [
    *("--num-envs", "4", "--rollout-length", "8", "--minibatches", "1", "--epochs", "1"),
    *("--network.hidden", "8", "--evaluate-episodes", "4", "--steps", "64"),
]


def origins(text: str) -> dict[str, tuple[str, str]]:
    """Path → (value, origin) of what `--dry-run` prints."""
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    return {row[0]: (row[1], row[2]) for row in rows if len(row) == 3}


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line for bash, where `ludus` is this installation's."""
    here = f'ludus() {{ {sys.executable} -m ludus.cli.main "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", here], capture_output=True, text=True, env=os.environ | environment, timeout=120
    )


# --- without a command ----------------------------------------------------------------------------------------------


def test_no_arguments_show_the_commands_and_fail(ludus):
    said = ludus()
    assert said.code == 2 and said.out == ""
    assert all(command in said.err for command in ("train", "resume", "evaluate", "report", "render", "list"))


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_shows_the_commands(ludus, flag):
    said = ludus(flag)
    assert said.code == 0 and said.err == "" and "train ALGORITHM ENVIRONMENT" in said.out


@pytest.mark.parametrize("command", ["describe", "resume", "evaluate", "report", "render", "train", "list"])
def test_every_command_has_help(ludus, command):
    said = ludus(command, "--help")
    assert said.code == 0 and said.err == "" and f"ludus {command}" in said.out


def test_help_of_train_names_every_hyperparameter_with_its_preset_as_default(ludus):
    said = ludus("train", "ppo", RPS, "--help")
    assert said.code == 0
    for flag in ("--steps", "--learning-rate", "--clip", "--network.hidden", "--env.rounds", "--on-nan", "--config"):
        assert flag in said.out


def test_version(ludus):
    assert ludus("--version").out.strip() == f"ludus {__version__}"


@pytest.mark.parametrize(("word", "hint"), [("trian", "did you mean 'train'?"), ("", "known:"), ("--vresion", "")])
def test_unknown_command(ludus, word, hint):
    ludus(word).refuses("unknown command", hint)


# --- list, describe -------------------------------------------------------------------------------------------------


def test_list_algorithms_and_presets(ludus):
    listed = ludus("list", "algorithms", "--json").json
    assert {"ppo", "mappo", "a2c", "reinforce"} <= set(listed)
    assert all(text for text in listed.values())
    assert all(name in ludus("list", "algorithms").out for name in listed)
    assert isinstance(ludus("list", "presets", "--json").json, dict)


def test_list_environments_into_a_pipe_that_closes():
    """All suites are imported here, so this is also where a greeting on standard output would show."""
    found = shell("ludus list environments | head -1; echo ${PIPESTATUS[0]}")
    assert found.stdout.splitlines()[0].startswith("matrix (") and found.stdout.splitlines()[1] == "0"
    assert "Traceback" not in found.stderr and "Exception ignored" not in found.stderr and "rror" not in found.stderr


def test_list_of_something_else(ludus):
    ludus("list", "enviroments").refuses("did you mean 'environments'?")
    ludus("list", "environments", "algorithms").refuses()


def test_describe_prints_groups_teams_spaces_horizon_reward_and_turns(ludus):
    said = ludus("describe", RPS)
    assert said.code == 0 and said.err == ""
    for word in ("turns", "reward", "zero-sum", "teams", "horizon", "3 actions", "options"):
        assert word in said.out


def test_describe_as_json(ludus):
    found = ludus("describe", RPS, "--json").json
    assert found["name"] == RPS and found["turns"] == "simultaneous" and found["reward"] == "zero-sum"
    assert all({"agents", "team", "observation", "action"} <= set(group) for group in found["groups"].values())


def test_json_stands_alone_on_standard_output_although_suites_greet(tmp_path):
    found = shell("ludus describe mpe/simple_spread --json")
    assert found.returncode == 0
    assert json.loads(found.stdout)["name"] == "mpe/simple_spread"


@pytest.mark.parametrize("command", [["describe"], ["train", "ppo"]])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("matrix/rock_paper_scisors", "did you mean 'matrix/rock_paper_scissors'?"),
        ("rock_paper_scissors", "did you mean 'matrix/rock_paper_scissors'?"),
        ("matrix", "matrix/"),
        ("matrix/", "matrix/"),
        (" ", "unknown environment"),
        ("", "unknown environment"),
    ],
)
def test_unknown_environment_names_the_nearest(ludus, command, name, hint):
    ludus(*command, name).refuses(hint)


def test_missing_argument(ludus):
    for arguments in (["describe"], ["train"], ["train", "ppo"], ["resume"], ["evaluate"], ["report"], ["render"]):
        said = ludus(*arguments)
        assert said.code == 2 and said.out == "" and said.err != "" and "Traceback" not in said.err


# --- train: what is resolved, and what is refused -------------------------------------------------------------------


def test_dry_run_shows_every_value_with_its_origin_and_starts_nothing(ludus, tmp_path):
    Path("mine.toml").write_text(
        "[algorithm]\nclip = 0.3\ndiscount = 0.9\n[algorithm.network]\nactivation = 'relu'\n[settings]\nseed = 5\n"
    )
    flags = ["--config", "mine.toml", "--discount", "0.8", "--no-anneal", "--network.hidden", "16", "8"]
    said = ludus("train", "ppo", RPS, "--dry-run", *flags, "--steps=4096", "--env.rounds", "3")
    assert said.code == 0
    found = origins(said.out)
    assert found["algorithm.clip"] == ("0.3", "mine.toml")
    assert found["algorithm.network.activation"] == ("relu", "mine.toml")
    assert found["settings.seed"] == ("5", "mine.toml")
    assert found["algorithm.discount"] == ("0.8", "flag")
    assert found["algorithm.anneal"] == ("False", "flag")
    assert found["algorithm.network.hidden"] == ("[16, 8]", "flag")
    assert found["settings.steps"] == ("4096", "flag")
    assert found["environment.rounds"] == ("3", "flag")
    assert found["algorithm.trace"][1] == "default"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.toml"]


def test_dry_run_shows_what_a_preset_sets(ludus):
    found = ludus("train", "ppo", "gym/CartPole-v1", "--dry-run", "--json", "--seed", "4").json
    assert "preset" in found["origin"].values() and found["origin"]["settings.seed"] == "flag"
    assert found["config"]["algorithm"]["name"] == "ppo" and found["config"]["settings"]["seed"] == 4


def test_a_flag_equal_to_the_default_still_goes_over_the_file(ludus):
    Path("mine.toml").write_text("[environment]\nrounds = 7\n[algorithm]\nclip = 0.3\n")
    said = ludus("train", "ppo", RPS, "--dry-run", "--config", "mine.toml", "--clip", "0.2", "--env.rounds", "1")
    found = origins(said.out)
    assert found["algorithm.clip"] == ("0.2", "flag") and found["environment.rounds"] == ("1", "flag")


FILES = {
    "[algorithm]\nlerning_rate = 0.1\n": "did you mean 'learning_rate'?",
    "[algorithm.network]\nhiden = [3]\n": "did you mean 'hidden'?",
    "[algoritm]\nclip = 0.1\n": "did you mean 'algorithm'?",
    "[seting]\nsteps = 1\n": "did you mean 'settings'?",
    "steps = 1\n": "settings",
    "algorithm = 'ppo'\n": "must be a table",
    "[algorithm]\nclip = 'high'\n": "algorithm.clip must be a number, not 'high'",
    "[algorithm]\nepochs = 1.5\n": "algorithm.epochs must be a whole number",
    "[algorithm]\nanneal = 1\n": "algorithm.anneal must be true or false",
    "[algorithm]\nnetwork = 5\n": "algorithm.network must be a table",
    "[algorithm.network]\nhidden = 5\n": "algorithm.network.hidden must be a list",
    "[algorithm.network]\nhidden = [5, 'a']\n": "algorithm.network.hidden",
    "[algorithm.network]\nmemory = 'gur'\n": "did you mean 'gru'?",
    "[settings]\nsteps = -1\n": "steps",
    "[settings]\non_nan = 'stpo'\n": "did you mean 'stop'?",
    "[environment]\nround = 2\n": "did you mean 'rounds'?",
    "[environment]\nrounds = 'x'\n": "environment.rounds must be a whole number",
    "[environment]\nname = 'mpe/simple'\n": "is for the environment 'mpe/simple'",
    "[algorithm]\nname = 'a2c'\n": "is for the algorithm 'a2c'",
    "[algorithm\n": "not valid TOML",
    "\x00\xff": "not valid TOML",
}


@pytest.mark.parametrize("text", FILES)
def test_wrong_configuration_files_are_refused_with_the_right_word(ludus, text):
    Path("mine.toml").write_text(text)
    ludus("train", "ppo", RPS, "--config", "mine.toml", "--run-dir", "new").refuses(FILES[text])
    assert not Path("new").exists()


def test_configuration_file_that_is_none(ludus, tmp_path):
    ludus("train", "ppo", RPS, "--config", "none.toml").refuses("no file none.toml")
    ludus("train", "ppo", RPS, "--config", str(tmp_path)).refuses("cannot read")
    ludus("train", "ppo", RPS, "--config", "", "--dry-run").refuses()
    Path("bytes.toml").write_bytes(b"\xff\xfe\x00")
    ludus("train", "ppo", RPS, "--config", "bytes.toml").refuses("not valid TOML")


MISTYPED = {
    "--num-env 4": "--num-envs",
    "--lerning-rate 0.1": "--learning-rate",
    "--hidden 8": "--network.hidden",
    "--env.round 3": "--env.rounds",
    "--steps abc": "--steps",
    "--steps 1.5": "--steps",
    "--steps": "--steps",
    "--on-nan stpo": "stop",
    "surplus": "surplus",
}


@pytest.mark.parametrize("flags", MISTYPED)
def test_mistyped_flags_are_refused_with_the_right_one(ludus, flags):
    said = ludus("train", "ppo", RPS, "--run-dir", "new", *flags.split())
    assert said.code == 2 and said.out == "" and "Traceback" not in said.err
    assert MISTYPED[flags] in said.err
    assert not Path("new").exists()


MISTAKES = {
    "--steps 0": "steps",
    "--steps -5": "steps",
    "--num-envs 0": "num_envs",
    "--num-envs -4": "num_envs",
    "--seeds 0": "seeds",
    "--seeds -2": "seeds",
    "--devices -1": "devices",
    "--devices 1000": "devices",
    "--rollout-length 0": "rollout_length",
    "--rollout-length -8": "rollout_length",
    "--minibatches 0": "minibatches",
    "--minibatches -1": "minibatches",
    "--minibatches 3": "3_minibatches_do_not_divide",
    "--epochs 0": "epochs",
    "--network.hidden 0": "hidden",
    "--network.hidden -3": "hidden",
    "--network.memory gru --network.memory-size 0": "memory_size",
    "--learning-rate nan": "learning_rate",
    "--learning-rate -1": "learning_rate",
    "--discount 2": "discount",
    "--trace -1": "trace",
    "--max-grad-norm 0": "max_grad_norm",
    "--evaluate-episodes 0": "evaluate_episodes",
    "--evaluate-every -5": "evaluate_every",
    "--checkpoint-every nan": "checkpoint_every",
    "--env.rounds 0": "round",
    "--network.conv 8": "height,_width,_channels",
}


@pytest.mark.parametrize("flags", MISTAKES)
def test_values_that_make_no_sense_are_refused_in_one_sentence_before_anything_is_written(ludus, flags):
    said = ludus("train", "ppo", RPS, "--dry-run", *flags.split())
    said.refuses()
    assert MISTAKES[flags] in said.err.replace("-", "_").replace(" ", "_")
    assert not Path("runs").exists()


def test_steps_in_scientific_notation(ludus):
    found = ludus("train", "ppo", RPS, "--dry-run", "--json", "--steps", "1e6").json
    assert found["config"]["settings"]["steps"] == 1_000_000


def test_more_steps_than_a_counter_holds_are_refused_before_the_run_begins(ludus):
    ludus("train", "ppo", RPS, *TINY, "--steps", "100000000000000000", "--run-dir", "new").refuses("steps")
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("algorithm", "environment", "reasons"),
    [
        ("pppo", RPS, ["unknown algorithm 'pppo'", "did you mean 'ppo'?"]),
        ("", RPS, ["unknown algorithm ''", "known:"]),
        ("mappo", "pgx/tic_tac_toe", ["central critic", "ppo"]),
        ("player=ppo,payer=a2c", RPS, ["no team 'payer'", "did you mean 'player'?"]),
        ("player=pppo", RPS, ["did you mean 'ppo'?"]),
        ("row=ppo", "matrix/matching_pennies", ["team"]),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason_and_what_would(ludus, algorithm, environment, reasons):
    ludus("train", algorithm, environment, "--run-dir", "new").refuses(*reasons)
    assert not Path("new").exists()


def test_flags_before_names_are_explained(ludus):
    ludus("train", "--steps", "5", "ppo", RPS).refuses("ludus train ALGORITHM ENVIRONMENT")


# --- train ----------------------------------------------------------------------------------------------------------


def test_train_with_json_prints_one_object_and_nothing_else(ludus):
    said = ludus("train", "ppo", RPS, *TINY, "--json", "--run-dir", "a run")
    assert said.code == 0 and said.err == ""
    assert said.json["run"] == "a run" and said.json["steps"] == 64
    (row,) = said.json["evaluations"]
    assert row["seed"] == 0 and row["episodes"] == 4 and set(row["mean_return"]) == set(row["interval"])
    for file in ("config.toml", "versions.json", "metrics.jsonl", "evaluations.jsonl"):
        assert Path("a run", file).is_file()


def test_quiet_says_nothing_and_words_say_where_the_run_lies(ludus):
    said = ludus("train", "ppo", RPS, *TINY, "--quiet", "--run-dir", "quiet")
    assert (said.code, said.out, said.err) == (0, "", "")
    said = ludus("train", "ppo", RPS, *TINY)
    assert "return per agent" in said.out and "run: runs/" in said.out and "64 / 64 steps" in said.err


def test_a_directory_with_a_run_is_not_trained_over(ludus, run):
    before = Path(run, "config.toml").read_bytes()
    ludus("train", "ppo", RPS, *TINY, "--run-dir", run).refuses("already holds a run", f"ludus resume {run}")
    assert Path(run, "config.toml").read_bytes() == before


@pytest.mark.parametrize("command", ["resume", "evaluate", "report", "render"])
def test_what_is_no_run_is_refused(ludus, command, tmp_path):
    Path("file").write_text("mine")
    Path("empty").mkdir()
    for path in ("nowhere", "file", "file/below", "empty", ""):
        ludus(command, path).refuses("holds no run")
    ludus(command, "x" * 300).refuses()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


def test_resume_of_a_finished_run_changes_no_result(ludus, run):
    files = [*Path(run, "policies").rglob("*.safetensors"), Path(run, "metrics.jsonl"), Path(run, "evaluations.jsonl")]
    before = [file.read_bytes() for file in files]
    assert ludus("resume", run, "--quiet").code == 0
    assert [file.read_bytes() for file in files] == before


# --- evaluate -------------------------------------------------------------------------------------------------------


def test_evaluate_with_json(ludus, spread_run):
    said = ludus("evaluate", spread_run, "--episodes", "5", "--json")
    assert said.code == 0 and said.err == ""
    found = said.json
    assert found["episodes"] == 5 and found["mean_length"] == 7 and "returns" not in found
    low, high = found["interval"]["agents"]
    assert low < found["mean_return"]["agents"] < high
    assert found["teams"]["team"]["mean_return"] == pytest.approx(found["mean_return"]["agents"])


def test_evaluate_raw_lists_every_episode_and_repeats_itself(ludus, spread_run):
    first, second = (ludus("evaluate", spread_run, "--episodes", "3", "--json", "--raw").json for _ in range(2))
    assert first == second
    assert len(first["returns"]["agents"]) == len(first["lengths"]) == 3
    assert sum(first["returns"]["agents"]) / 3 == pytest.approx(first["mean_return"]["agents"])
    other = ludus("evaluate", spread_run, "--episodes", "3", "--json", "--raw", "--seed", "1").json
    assert other["returns"] != first["returns"]


def test_evaluate_with_several_seeds_gives_each_its_own(ludus, run):
    found = ludus("evaluate", run, "--episodes", "4", "--json").json
    assert set(found["seeds"]) == {"3", "4"}
    assert {"mean_return", "interval", "teams", "episodes", "mean_length"} <= set(found["seeds"]["3"])
    said = ludus("evaluate", run, "--episodes", "4")
    assert "seed 3" in said.out and "seed 4" in said.out and "95 % interval" in said.out


def test_evaluate_against_random_play_and_against_another_run(ludus, run, other_run):
    for opponent in ("random", other_run):
        found = ludus("evaluate", run, "--episodes", "6", "--json", "--against", opponent).json["seeds"]["3"]
        assert found["episodes"] == 6
        assert found["win_rate"] + found["draw_rate"] + found["loss_rate"] == pytest.approx(1)
        assert [team["episodes"] for team in found["teams"].values()] == [3, 3]


def test_every_number_is_json_even_of_a_single_episode(ludus, run):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    said = ludus("evaluate", run, "--episodes", "1", "--json", "--raw", "--against", "random")
    found = json.loads(said.out, parse_constant=refuse)["seeds"]["3"]
    assert found["episodes"] == 1 and math.isfinite(next(iter(found["mean_return"].values())))


def test_evaluate_against_a_run_of_another_game_with_groups_of_the_same_name_is_refused(ludus, run, board_run):
    ludus("evaluate", run, "--against", board_run).refuses("pgx/tic_tac_toe")


def test_evaluate_refuses_what_makes_no_sense(ludus, run, spread_run):
    ludus("evaluate", run, "--episodes", "0").refuses("--episodes")
    ludus("evaluate", run, "--explore", "--greedy").refuses("--explore", "--greedy")
    ludus("evaluate", run, "--against", "nowhere").refuses("nowhere")
    ludus("evaluate", run, "--against", spread_run).refuses("mpe/simple_spread")


def test_evaluate_of_a_run_that_has_not_finished_says_so(ludus, run, tmp_path):
    Path("begun").mkdir()
    Path("begun/config.toml").write_bytes(Path(run, "config.toml").read_bytes())
    for command in ("evaluate", "report", "render"):
        ludus(command, "begun").refuses("begun")
    ludus("evaluate", "begun").refuses("ludus resume begun")


@pytest.mark.parametrize(
    ("flag", "wrong", "right"), [("--network.activation", "tahn", "tanh"), ("--on-nan", "skp", "skip")]
)
def test_a_wrong_choice_names_the_nearest(ludus, flag, wrong, right):
    ludus("train", "ppo", "gym/CartPole-v1", flag, wrong).refuses(wrong, flag, f"did you mean '{right}'?")


# --- report, render -------------------------------------------------------------------------------------------------


def test_report_writes_curves_a_table_and_one_self_contained_page(ludus, run, other_run):
    said = ludus("report", run, other_run, "--out", "out", "--json")
    assert said.code == 0
    assert {(row["algorithm"], row["seeds"]) for row in said.json["rows"]} == {("ppo", 2), ("a2c", 1)}
    for figure in said.json["figures"]:
        assert Path(figure).read_bytes().startswith(b"\x89PNG")
    page = Path(said.json["page"]).read_text()
    assert "<table" in page and "data:image/png;base64," in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page), "the page needs nothing else"
    said = ludus("report", run)
    assert said.code == 0 and "bootstrap" in said.out and Path(run, "report", "report.html").is_file()


def test_report_names_a_row_that_is_none_of_its_own(ludus, run, tmp_path):
    other = str(tmp_path / "other")
    shutil.copytree(run, other)
    metrics = Path(other, "metrics.jsonl")
    rows = metrics.read_text().splitlines()
    metrics.write_text("\n".join([rows[0], "{}", *rows[1:]]))
    ludus("report", other).refuses("metrics.jsonl, line 2")


def test_nobody_called_randm_is_played_against():
    with pytest.raises(UsageError, match="did you mean 'random'"):
        policies_of("randm", make("pgx/tic_tac_toe").spec)


def test_report_refuses_a_place_that_cannot_be_written(ludus, run):
    Path("file").write_text("mine")
    ludus("report", run, "--out", "file").refuses("cannot write", "file")
    assert Path("file").read_text() == "mine"


def test_report_tells_configurations_and_kinds_of_returns_apart(ludus):
    """Seeds of one configuration are one row; another step size is another row, named by what differs."""
    game = ("matrix/rock_paper_scissors", "--quiet")
    for name, flags in {
        "a": ("--seed", "0"),
        "b": ("--seed", "1"),
        "c": ("--seed", "0", "--learning-rate", "0.5"),
        "d": ("--seed", "2", "--learning-rate", "0.5", "--evaluate-every", "8"),
    }.items():
        assert ludus("train", "ppo", *game, *TINY, *flags, "--run-dir", name).code == 0
    rows = ludus("report", "a", "b", "c", "d", "--out", "out", "--json").json["rows"]
    found = {(r["algorithm"].split("=")[-1], r["seeds"], r["of"]) for r in rows}
    kind = "evaluation, sampled against random play"
    assert len(found) == 2 and ("0.5", 2, kind) in found and {r["of"] for r in rows} == {kind}
    Path("b/evaluations.jsonl").unlink()  # a seed that was not evaluated: none of its row's values is an evaluation
    rows = ludus("report", "a", "b", "--out", "out", "--json").json["rows"]
    assert {(r["algorithm"], r["seeds"], r["of"]) for r in rows} == {("ppo", 2, "training episodes")}
    assert {r["mean"] for r in rows} == {0.0}  # of both seats together, and not against random play


def test_report_does_not_count_a_run_twice(ludus, run):
    said = ludus("report", run, run, "--out", "out", "--json")
    if said.code == 0:
        assert said.json["rows"][0]["seeds"] == 2
    else:
        said.refuses(run)


def test_render_draws_a_gif(ludus, spread_run):
    said = ludus("render", spread_run, "--out", "deep/episode.gif")
    assert said.code == 0 and said.out.strip() == "deep/episode.gif"
    assert Path("deep/episode.gif").read_bytes().startswith(b"GIF8")


def test_render_draws_an_svg(ludus, board_run):
    said = ludus("render", board_run)
    assert said.code == 0 and said.out.strip() == f"{board_run}/episode.svg"
    assert "<svg" in Path(board_run, "episode.svg").read_text()


def test_render_refuses_what_cannot_be_drawn(ludus, run, board_run):
    ludus("render", run).refuses("cannot be drawn")
    ludus("render", board_run, "--out", "episode.gif").refuses(".svg")


@pytest.mark.parametrize("line", ["ludus train ppo mpe/simple_spread", "ludus league psro pgx/tic_tac_toe"])
def test_every_core_is_a_device_though_suites_use_jax_when_imported(line):
    """Suites are asked for their options before flags are read; by then JAX must have been told of the cores."""
    check = "import jax; assert len(jax.devices()) == 2, jax.devices()"
    code = f"from ludus.cli.main import main; main({[*line.split()[1:], '--dry-run', '--json']!r}); {check}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"LUDUS_HOST_DEVICES": "2", "XLA_FLAGS": ""},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    if "train" in line:
        assert json.loads(done.stdout)["devices"] == 2


@pytest.mark.skipif(available() < 2, reason="as many devices as there are cores")
def test_a_run_says_on_how_many_devices_it_is_resumed(run):
    assert "devices = 2" in (Path(run) / "config.toml").read_text()


def test_playing_against_somebody_where_there_is_one_team_only_is_refused(ludus, spread_run):
    ludus("evaluate", spread_run, "--against", "random").refuses("one team only")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--seed", "-1"], "seed must be between 0 and 4294967295, not -1"),
        (["--seed", "5000000000"], "not 5000000000"),
        (["--env.max-steps", "-5"], "they need at least 1"),
        (["--env.num-agents", "0"], "it needs at least 1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_before_anything_runs(ludus, flags, said):
    ludus("train", "ppo", "mpe/simple_spread", "--dry-run", *flags).refuses(said)


def test_a_tracker_that_is_misspelt_leaves_no_run_behind(ludus, tmp_path, monkeypatch):
    monkeypatch.setenv("LUDUS_TRACK", "tensorbord")
    ludus("train", "ppo", RPS, *TINY, "--run-dir", str(tmp_path / "run")).refuses("did you mean 'tensorboard'?")
    assert not (tmp_path / "run").exists()


def test_tensorboard_hears_of_training_and_of_evaluations(ludus, tmp_path, monkeypatch):
    """Oracle: TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("LUDUS_TRACK", "tensorboard")
    assert ludus("train", "ppo", RPS, *TINY, "--run-dir", str(tmp_path / "run"), "--quiet").code == 0
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    tags = {tag for kind in board.Tags().values() if isinstance(kind, list) for tag in kind}
    assert any("entropy" in tag for tag in tags) and any("evaluation" in tag for tag in tags), tags
