"""Leagues compile many programs, and a process can map only so much: they are let go of when it has half of that."""

from __future__ import annotations

import gc
from pathlib import Path

import jax
import pytest

MAPS, MOST = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")


@pytest.fixture(autouse=True)
def let_go_of_programs():
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") < int(MOST.read_text()) // 2:
        return
    gc.collect()
    jax.clear_caches()
