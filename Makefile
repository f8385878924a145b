# Two commands matter on a fresh machine: make demo, make test. Everything lives in .venv.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow check bench docs clean

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || python3 -m venv $(VENV)
	@if command -v uv >/dev/null 2>&1; then uv pip install -q --python $(BIN)/python -e '.[dev]'; \
	 else $(BIN)/python -m pip install -q --upgrade pip && $(BIN)/python -m pip install -q -e '.[dev]'; fi
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python examples/demo.py

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not slow and not optimised'
	LUDUS_TEST_OPTIMISED=1 $(BIN)/python -m pytest -n 2 -m 'optimised and not slow'

test-slow: $(STAMP)
	LUDUS_TEST_OPTIMISED=1 $(BIN)/python -m pytest -m slow

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python bench/throughput.py

docs: $(STAMP)
	$(BIN)/python -m pip install -q mkdocs-material
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) runs site build dist
