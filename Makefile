.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help run demo test lint schema check seed api worker psql audit

help: ## Say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

.venv/.installed: requirements.lock pyproject.toml
	@echo "installing the pinned dependencies into .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

run: .venv/.installed ## Start database, API and worker; Ctrl-C stops them (PORT, DATABASE_URL)
	@exec $(BIN)/python -m app.run

demo: .venv/.installed ## Play real claims through a running `make run` (BASE_URL)
	@$(BIN)/python -m app.demo

test: .venv/.installed ## Run the tests (TEST_DATABASE_URL, TEST_DATABASE=testcontainers)
	@$(BIN)/python -m pytest $(ARGS)

lint: .venv/.installed ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

schema: .venv/.installed ## Make the database at DATABASE_URL what this code expects
	@$(BIN)/python -m app.schema

check: .venv/.installed ## Compare the database at DATABASE_URL with this code, change nothing
	@$(BIN)/python -m app.schema --check

seed: .venv/.installed ## Plant the demo data at DATABASE_URL, once; never in production
	@$(BIN)/python -m app.seed

api: .venv/.installed ## Start the API alone (API_DATABASE_URL, TOKEN_KEYS, PORT)
	@exec $(BIN)/python -m app

worker: .venv/.installed ## Start one worker alone (WORKER_DATABASE_URL)
	@PROCRASTINATE_APP=jobs.app exec $(BIN)/procrastinate worker

psql: .venv/.installed ## Open psql at DATABASE_URL, or at the database of a running `make run`
	@$(BIN)/python -m app.postgres psql

audit: .venv/.installed ## Compare, and list who may reach which table, from the live catalog
	@$(BIN)/python -m app.postgres psql -f sql/audit/permissions.sql
