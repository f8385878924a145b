"""Nothing here depends on what the compiler optimises, so it may do less."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def quick_compiler():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
