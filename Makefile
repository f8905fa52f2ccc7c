.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help run demo test test-pg lint contract mutants plans pooler chaos openapi schema check seed api worker jobs psql audit permissions heads verify-chain suspend resume grant-reporting revoke-reporting bench bench-scale bench-memory bench-streams bench-limits bench-audit bench-signature bench-jobs bench-tallies bench-logins verify-tallies

help: ## Say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

.venv/.installed: requirements.lock pyproject.toml
	@echo "installing the pinned dependencies into .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

run: .venv/.installed ## Start database, API and worker; Ctrl-C stops them (PORT, DATABASE_URL)
	@exec $(BIN)/python -m app.dev.run

demo: .venv/.installed ## Play real claims through a running `make run` (BASE_URL)
	@$(BIN)/python -m app.dev.demo

test: .venv/.installed ## Run the tests (TEST_DATABASE_URL, TEST_DATABASE=testcontainers)
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 $(ARGS)

# Debian's folder first, then whatever pg_config of PATH belongs to, then the package's own.
test-pg: .venv/.installed ## Run the tests on another major version, where it is installed (PG=15 to 18)
	@for bin in /usr/lib/postgresql/$(PG)/bin "$$(pg_config --bindir 2>/dev/null)" \
		"$$($(BIN)/python -c 'from app.postgres import binaries; print(binaries())')"; do \
		case "$$("$$bin/postgres" --version 2>/dev/null)" in *" $(PG)."*) \
			TEST_DATABASE_URL= TEST_DATABASE= POSTGRES_BIN="$$bin" exec $(MAKE) --no-print-directory test;; esac; \
	done; echo "test-pg: no PostgreSQL '$(PG)' is installed here (PG=15, 16, 17 or 18)" >&2; exit 2

contract: .venv/.installed ## Try the running API against its own contract, at length (CONTRACT_EXAMPLES, CONTRACT_SEED)
	@CONTRACT_EXAMPLES=$${CONTRACT_EXAMPLES:-50} CONTRACT_PHASES=examples,coverage,fuzzing,stateful \
		$(BIN)/python -m pytest -s tests/http/test_contract.py

mutants: .venv/.installed ## Break the database's guard in every way there is, and print who notices
	@$(BIN)/python -m pytest -q -s tests/security/policies/test_mutants.py

chaos: .venv/.installed ## Kill, freeze and cut off what runs under load, and look for anything lost or doubled (CHAOS_SECONDS, CHAOS_SEED)
	@$(BIN)/python -m tests.load.chaos

pooler: .venv/.installed ## Run the API's tests through PgBouncer in transaction mode, if it is installed
	@POOLER_MODULES="http/test_api http/test_idempotency http/test_idempotency_races http/test_access \
		resources/test_claims resources/test_claim_lists resources/test_claim_work resources/test_patients resources/test_users \
		security/test_isolation security/test_forgery \
		security/attacks/test_ids security/attacks/test_login security/attacks/test_indirect_access" $(BIN)/python -m pytest tests/database/test_pooler.py

slow-clients: .venv/.installed ## Ask for /health while 1,000 half-open and 100 slow connections are held (HALF_OPEN, TRICKLES)
	@HALF_OPEN=$${HALF_OPEN:-1000} TRICKLES=$${TRICKLES:-100} $(BIN)/python -m pytest -q -s tests/http/test_connection_limits.py -k health_answers

plans: .venv/.installed ## Judge the plans of every statement over 300,000 claims (PLANS_CLAIMS)
	@PLANS_CLAIMS=$${PLANS_CLAIMS:-300000} $(BIN)/python -m pytest -s tests/database/test_plans.py

openapi: .venv/.installed ## Write openapi.json from the code
	@$(BIN)/python -m app.http.openapi.docs > openapi.json

bench: .venv/.installed ## Measure the API against the floor that PostgreSQL is (CLAIMS, BENCH_DIR, SECONDS, ROUNDS, CONNECTIONS, PROCESSES, ONLY)
	@$(BIN)/python -m tests.load.bench $(ONLY)

bench-scale: .venv/.installed ## Measure what a hundred times as many claims change (SIZES, BENCH_DIR)
	@$(BIN)/python -m tests.load.bench_scale

bench-memory: .venv/.installed ## Measure what 200,000 requests leave in one API process (REQUESTS, CLAIMS)
	@$(BIN)/python -m tests.load.bench_memory

bench-streams: .venv/.installed ## Measure what 100,000 lines in and out do to the API's memory (LINES)
	@$(BIN)/python -m tests.load.streams

bench-limits: .venv/.installed ## Measure what the rate limits cost, with and without in turn
	@$(BIN)/python -m tests.load.limits

bench-audit: .venv/.installed ## Measure what the trail costs: recorded readings, sealing, verifying
	@$(BIN)/python -m tests.load.audit

bench-jobs: .venv/.installed ## Measure jobs: events a second, commit to effect, what each part is worth (EVENTS)
	@$(BIN)/python -m tests.load.jobs

bench-tallies: .venv/.installed ## Measure what tallies cost writers and give statistics, in turn
	@$(BIN)/python -m tests.load.totals

bench-logins: .venv/.installed ## Measure what a burst of 200 logins does to everybody else (PROCESSES)
	@$(BIN)/python -m tests.load.logins

bench-fairness: .venv/.installed ## Measure what one user's load does to another organization (CLAIMS, BENCH_DIR, SECONDS, CONNECTIONS, ONLY)
	@$(BIN)/python -m tests.load.fairness $(ONLY)

bench-signature: .venv/.installed ## Measure what signing the context costs, with and without in turn
	@$(BIN)/python -m tests.load.context_signature

lint: .venv/.installed ## Check style, types and, on a fresh database, the policies (TEST_DATABASE_URL)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m tests.security.policies.lint

schema: .venv/.installed ## Make the database at DATABASE_URL what this code expects
	@$(BIN)/python -m app.operations.migrate

check: .venv/.installed ## Compare the database at DATABASE_URL with this code, change nothing
	@$(BIN)/python -m app.operations.migrate --check

seed: .venv/.installed ## Plant the demo data at DATABASE_URL, once; never in production
	@$(BIN)/python -m app.dev.seed

api: .venv/.installed ## Start the API alone (API_DATABASE_URL, TOKEN_KEYS, PORT, PROCESSES)
	@exec $(BIN)/python -m app

worker: .venv/.installed ## Start the workers alone (WORKER_DATABASE_URL, WORKER_PROCESSES)
	@exec $(BIN)/python -m jobs

jobs: .venv/.installed ## Print the queue's depth, its oldest job, what failed and which workers live
	@$(BIN)/python -m app.dev.postgres psql -qX -P footer=off -f sql/operations/queue_status.sql

psql: .venv/.installed ## Open psql at DATABASE_URL, or at the database of a running `make run`
	@$(BIN)/python -m app.dev.postgres psql

suspend: .venv/.installed ## Let nobody of an organization in any more (ORG=slug)
	@$(BIN)/python -m app.dev.postgres psql -qXv slug='$(ORG)' -v at='now()' -f sql/operations/suspend_organization.sql

resume: .venv/.installed ## Let them in again (ORG=slug)
	@$(BIN)/python -m app.dev.postgres psql -qXv slug='$(ORG)' -v at=null -f sql/operations/suspend_organization.sql

unlock: .venv/.installed ## Give an account its tries to log in back, before the throttle does (EMAIL)
	@$(BIN)/python -m app.dev.postgres psql -qXv email='$(EMAIL)' -f sql/operations/unlock_account.sql

grant-reporting: .venv/.installed ## Make a login that reads one organization (LOGIN, ORG=slug; PERSONAL=1 for names and free texts)
	@$(BIN)/python -m app.dev.postgres psql -qXv login='$(LOGIN)' -v slug='$(ORG)' -v personal='$(PERSONAL)' -f sql/operations/grant_reporting.sql

revoke-reporting: .venv/.installed ## Remove a reporting login (LOGIN)
	@$(BIN)/python -m app.dev.postgres psql -qXv login='$(LOGIN)' -f sql/operations/revoke_reporting.sql

CHECKS = $(sort $(wildcard sql/audit/[0-9]*.sql))
audit: .venv/.installed ## Search the live catalog for faults of sql/audit; fails where one is found
	@found=$$($(BIN)/python -m app.dev.postgres psql -qXAt -F "$$(printf '\n    ')" -v ON_ERROR_STOP=1 \
		-c "do 'begin perform ''app.claims''::regclass; end'" $(CHECKS:%=-f %)) || exit 2; \
	if [ -n "$$found" ]; then printf '%s\n' "$$found"; exit 1; fi; \
	echo "healthy: $(words $(CHECKS)) checks, no finding"

permissions: .venv/.installed ## Write sql/PERMISSIONS.md from a fresh database, or from the one at DATABASE_URL
	@$(BIN)/python -m app.operations.permissions > sql/PERMISSIONS.md

heads: .venv/.installed ## Print the last seal of each organization's trail, to be noted elsewhere
	@$(BIN)/python -m app.dev.postgres psql -qXAt -F ' ' -c 'select * from app.audit_heads()'

verify-chain: .venv/.installed ## Compare the trail with its seals, and with noted heads (HEADS=file); fails where an entry was touched
	@found=$$(HEADS='$(HEADS)' $(BIN)/python -m app.dev.postgres psql -qXAt -F "$$(printf '\n    ')" -v ON_ERROR_STOP=1 \
		-f sql/operations/verify_audit.sql) || exit 2; \
	if [ -n "$$found" ]; then printf '%s\n' "$$found"; exit 1; fi; \
	echo "whole: no entry of the trail was touched after it was sealed"

verify-tallies: .venv/.installed ## Compare the tallies of statistics with the claims; fails where they differ
	@found=$$($(BIN)/python -m app.dev.postgres psql -qXAt -v ON_ERROR_STOP=1 -f sql/operations/verify_totals.sql) || exit 2; \
	if [ -n "$$found" ]; then printf '%s\n' "$$found"; exit 1; fi; echo "exact: the tallies are what the claims add up to"
