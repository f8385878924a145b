"""Leagues compile many programs, and a process can map only so many: they are let go of after every test."""

from __future__ import annotations

import gc

import jax
import pytest


@pytest.fixture(autouse=True)
def let_go_of_programs():
    yield
    gc.collect()
    jax.clear_caches()
