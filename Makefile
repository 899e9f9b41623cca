# One entry point for people and CI. Every target creates and refreshes .venv by itself.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test check format docs bench chaos lock clean

help: ## say what can be made
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements/dev.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Preparing $(VENV) from requirements/dev.lock (exact versions and hashes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## load believable deliveries into an embedded store and look at them
	@$(BIN)/python -m nemflow.cli demo
	@printf '\nTo type them here, first: source %s/activate\n' $(BIN)

test: $(STAMP) ## run every test; servers that are missing are started or skipped with a reason
	@$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

check: $(STAMP) ## format, lint, types, docs in step with the code
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/python docs/build.py --check

format: $(STAMP) ## format the code and mend what ruff can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(STAMP) ## write the generated pages of docs/ anew from the code
	@$(BIN)/python docs/build.py

bench: $(STAMP) ## measure speed beside the two public readers, in one run
	@$(BIN)/python bench/run.py $(ARGS)

chaos: $(STAMP) ## attack the store: crashes, races, deadlocks, lost servers; ARGS="--quick --seed 7"
	@$(BIN)/python -m chaos.run $(ARGS)

lock: $(STAMP) ## resolve requirements/*.in anew (needs the network)
	@$(BIN)/python -m pip install --quiet uv
	@for each in dev service; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header --no-annotate requirements/$$each.in -o requirements/$$each.lock \
	    || exit 1; done

clean: ## remove the environment and everything built
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-out
