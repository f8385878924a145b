"""What README, docs and examples show works, and their tables of hyperparameters are those of the code."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ludus
from ludus.algorithms.policy_gradient.actor_critic import ActorCritic
from ludus.experiment.config import Settings

ROOT = Path(__file__).resolve().parent.parent
SLOW = {"demo.py"}  # trains for minutes; `make demo` runs it
EXAMPLES = sorted(f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py") if path.name not in SLOW)
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """What failed, by item; everything runs in one process."""
    directory = tmp_path_factory.mktemp("documentation")
    results = directory / "results.json"
    run_everything(directory, results)
    found: dict[str, str | None] = json.loads(results.read_text())
    return found


def run_everything(directory: Path, results: Path) -> None:
    """Run examples, README and docs in a process of their own."""
    settings = {
        "LUDUS_COMPILE_CACHE": "0",
        "JAX_COMPILATION_CACHE_DIR": str(directory / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }
    command = [sys.executable, str(ROOT / "tests" / "run_documentation.py"), str(results), *EXAMPLES, *PAGES]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("item", [*EXAMPLES, *PAGES])
def test_it_runs_as_shown(item: str, failures: dict[str, str | None]) -> None:
    assert failures[item] is None, failures[item]


def table(page: str, after: str = "") -> dict[str, str]:
    """The first two columns of the rows whose first cell is a code word, below a heading."""
    text = (ROOT / "docs" / page).read_text().partition(after)[2] if after else (ROOT / "docs" / page).read_text()
    text = re.split(r"^## ", text.lstrip("# "), maxsplit=1, flags=re.MULTILINE)[0] if after else text
    return dict(re.findall(r"^\| `(\w+)` \| `?([^|`]+)`? \|", text, flags=re.MULTILINE))


def fields_of(kind: type) -> dict[str, str]:
    """The fields of a dataclass and their defaults as the pages write them."""
    return {f.name: repr(getattr(kind(), f.name)) for f in dataclasses.fields(kind)}


def test_the_common_fields_are_documented() -> None:
    common = fields_of(ActorCritic) | {"network": "Network()"}
    assert table("algorithms/index.md", "## Fields of all four") == {k: v.replace("'", '"') for k, v in common.items()}


def test_the_network_is_documented() -> None:
    network = {k: v.replace("'", '"') for k, v in fields_of(ludus.Network).items()}
    assert table("algorithms/index.md", "## Network") == network


@pytest.mark.parametrize(
    ("kind", "base"),
    [(ludus.REINFORCE, ActorCritic), (ludus.A2C, ActorCritic), (ludus.PPO, ActorCritic), (ludus.MAPPO, ludus.PPO)],
)
def test_the_fields_of_an_algorithm_are_documented(kind: type, base: type) -> None:
    inherited = fields_of(base)
    own = {k: v.replace("'", '"') for k, v in fields_of(kind).items() if inherited.get(k) != v}
    assert table(f"algorithms/{kind.__name__.lower()}.md", "## Fields") == own


def test_the_settings_are_documented() -> None:
    shown = table("python.md", "## train")
    for name, default in fields_of(Settings).items():
        assert shown[name].replace(",", "").strip('"').lower() == default.strip("'").lower(), name
