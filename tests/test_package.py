"""What `import ludus` offers, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import ludus


def test_every_name_is_there():
    """Oracle: each is what its module says it is."""
    assert {"train", "league", "PPO", "register"} <= set(ludus.__all__)
    for name in ludus.__all__:
        found = getattr(ludus, name)
        assert found.__name__ == name, name


def test_a_package_of_the_same_name_does_not_hide_a_function():
    code = (
        "import ludus, sys; assert 'jax' not in sys.modules; import ludus.league.league; "
        "from ludus import league; assert league is ludus.league and callable(league); "
        "import ludus.league.matchmaking; assert ludus.league is league"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_is_not_there_is_missed_by_its_name():
    code = "import ludus; ludus.trian"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "AttributeError" in done.stderr and "trian" in done.stderr
