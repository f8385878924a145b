from __future__ import annotations

import jax
import pytest


@pytest.fixture(scope="session", autouse=True)
def compile_cache(tmp_path_factory):
    """One compile cache for this process and those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir or str(tmp_path_factory.mktemp("xla"))
        )
        yield
