.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PSQL := $(BIN)/python -m app.operations.psql

.PHONY: help run demo token test test-pg lint lock contract policy-mutation-test slow-clients plans pooler chaos openapi clients schema check seed \
	api worker queue-status psql audit permissions audit-heads audit-verify totals-verify suspend resume unlock grant-reporting \
	revoke-reporting bench findings load-codes unload-codes icd10cm

help: ## List the targets; a target takes the variables in parentheses, as in `make run PORT=8001`
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 22

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$$($(PYTHON) --version 2>&1) is too old, 3.11 is needed; choose another: PYTHON=python3.11 make run" >&2; exit 2; }
	@echo "installing the pinned dependencies into .venv" >&2
	@$(PYTHON) -m venv .venv
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps -e .
	@touch $@

.venv/.installed-dev: .venv/.installed requirements-dev.lock
	@echo "installing what tests and development need into .venv" >&2
	@$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

run: .venv/.installed-dev ## Start database, API and worker; Ctrl-C stops them (PORT, DATA_DIR, DATABASE_URL)
	@exec $(BIN)/python -m app.dev.run

demo: .venv/.installed-dev ## Play real claims through a running `make run` (PORT, BASE_URL)
	@$(BIN)/python -m app.dev.demo

token: .venv/.installed-dev ## Print an access token of a running API (EMAIL; PASSWORD, ORG=slug, PORT, BASE_URL)
	@$(BIN)/python -m app.dev.token

test: .venv/.installed-dev ## Run the tests (TEST_DATABASE_URL, TEST_DATABASE=testcontainers)
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 $(ARGS)

# Debian's folder first, then whatever pg_config of PATH belongs to, then the package's own.
test-pg: .venv/.installed-dev ## Run the tests on another major version, where it is installed (PG=15 to 18)
	@for bin in /usr/lib/postgresql/$(PG)/bin "$$(pg_config --bindir 2>/dev/null)" \
		"$$($(BIN)/python -c 'from app.dev.postgres import binaries; print(binaries())')"; do \
		case "$$("$$bin/postgres" --version 2>/dev/null)" in *" $(PG)."*) \
			TEST_DATABASE_URL= TEST_DATABASE= POSTGRES_BIN="$$bin" exec $(MAKE) --no-print-directory test;; esac; \
	done; echo "test-pg: no PostgreSQL '$(PG)' is installed here (PG=15, 16, 17 or 18)" >&2; exit 2

contract: .venv/.installed-dev ## Try an API on a free port against its own contract, at length (CONTRACT_EXAMPLES, CONTRACT_SEED)
	@CONTRACT_EXAMPLES=$${CONTRACT_EXAMPLES:-50} CONTRACT_PHASES=examples,coverage,fuzzing,stateful \
		$(BIN)/python -m pytest -s tests/http/test_contract.py

policy-mutation-test: .venv/.installed-dev ## Change each policy, grant and function, one at a time, and print which check or test finds it
	@$(BIN)/python -m pytest -q -s tests/security/policies/test_mutants.py

chaos: .venv/.installed-dev ## Kill, freeze and cut off what runs under load, and look for anything lost or doubled (CHAOS_SECONDS, CHAOS_SEED)
	@$(BIN)/python -m tests.load.chaos

pooler: .venv/.installed-dev ## Run the API's tests through PgBouncer in transaction mode, if it is installed
	@POOLER_MODULES="http/test_api http/test_idempotency http/test_idempotency_races http/test_access \
		resources/test_claims resources/test_claim_lists resources/test_claim_work resources/test_patients resources/test_providers \
		resources/test_organizations resources/test_users resources/test_invitations \
		security/test_isolation security/test_forgery \
		security/attacks/test_ids security/attacks/test_login security/attacks/test_indirect_access" $(BIN)/python -m pytest tests/database/test_pooler.py

slow-clients: .venv/.installed-dev ## Request /health during 1,000 half-open and 100 slow connections (HALF_OPEN, TRICKLES)
	@HALF_OPEN=$${HALF_OPEN:-1000} TRICKLES=$${TRICKLES:-100} $(BIN)/python -m pytest -q -s tests/http/test_connection_limits.py -k health_responds

plans: .venv/.installed-dev ## Judge the plans of every statement over 300,000 claims (PLANS_CLAIMS)
	@PLANS_CLAIMS=$${PLANS_CLAIMS:-300000} $(BIN)/python -m pytest -s tests/database/test_plans.py

openapi: .venv/.installed-dev ## Write openapi.json from the code
	@$(BIN)/python -m app.http.openapi.docs > openapi.json

clients: .venv/.installed-dev ## Generate clients from openapi.json with six generators and run them, if npm and Java are installed (CLIENTS_DIR)
	@$(BIN)/python -m tests.clients

# Names of modules in tests/load: scale memory streams rate_limits audit jobs bursts totals logins fairness context_signature
bench: .venv/.installed-dev ## Measure: the API against PostgreSQL alone, or NAME=scale, memory, streams, jobs ... (tests/load/README.md)
	@$(BIN)/python -m tests.load.$(or $(NAME),bench) $(ONLY)

findings: ## Run the scripts of findings/ and fail if a behaviour has changed (NAME: part of a name)
	@for script in $(wildcard findings/*$(NAME)*.sh); do \
		echo "$$script"; bash "$$script" || { echo "$$script: the behaviour has changed" >&2; exit 1; }; done

lint: .venv/.installed-dev ## Check style, types, words and, on a fresh database, the policies (TEST_DATABASE_URL)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m tests.architecture.words
	@$(BIN)/python -m tests.security.policies.lint

COMPILE = uv pip compile --quiet --python-version 3.11 --generate-hashes --no-annotate --no-header $(UPGRADE) pyproject.toml
lock: ## Pin the dependencies of pyproject.toml; pins that still fit are kept (needs uv; UPGRADE=--upgrade renews all)
	@$(COMPILE) -o requirements.lock
	@$(COMPILE) -o requirements-dev.lock --extra dev -c requirements.lock \
		$$(sed -nE 's/^([^ =]+)==.*/--no-emit-package \1/p' requirements.lock)
	@sed -i '1i -r requirements.lock' requirements-dev.lock

schema: .venv/.installed ## Make the database at DATABASE_URL what this code expects
	@$(BIN)/python -m app.operations.migrate

check: .venv/.installed ## Compare the database at DATABASE_URL, or of a running `make run`, with this code; change nothing
	@$(BIN)/python -m app.operations.migrate --check

load-codes: .venv/.installed ## Load a release of ICD-10-CM for its days (FILE, CMS's order file; FROM, UNTIL: its first and last day)
	@$(BIN)/python -m app.operations.load_codes '$(FILE)' '$(FROM)' $(if $(UNTIL),'$(UNTIL)')

unload-codes: .venv/.installed ## Remove a release that load-codes loaded (FROM: its first day)
	@$(BIN)/python -m app.operations.load_codes remove '$(FROM)'

icd10cm: .venv/.installed-dev ## Build sql/data's codes (TABULAR: NCHS's XML) and compare them with a second source (ORDER: CMS's order file)
	@$(if $(TABULAR),$(BIN)/python -m app.dev.icd10cm build '$(TABULAR)')
	@$(if $(ORDER),$(BIN)/python -m app.dev.icd10cm compare '$(ORDER)')

seed: .venv/.installed-dev ## Create the demo data at DATABASE_URL, once; never in production
	@$(BIN)/python -m app.dev.seed

api: .venv/.installed ## Start the API alone (API_DATABASE_URL, TOKEN_KEYS, PORT, PROCESSES)
	@exec $(BIN)/python -m app

worker: .venv/.installed ## Start the workers alone (WORKER_DATABASE_URL, WORKER_PROCESSES)
	@exec $(BIN)/python -m jobs

queue-status: .venv/.installed ## Print the queue's depth, its oldest job, the last failed jobs and the workers
	@$(PSQL) -qX -P footer=off -f sql/operations/queue_status.sql

psql: .venv/.installed ## Open psql at DATABASE_URL, or at the database of a running `make run`
	@$(PSQL)

suspend: .venv/.installed ## Suspend an organization: all of its requests are refused (ORG=slug)
	@$(PSQL) -qXv slug='$(ORG)' -v at='now()' -f sql/operations/suspend_organization.sql

resume: .venv/.installed ## End the suspension of an organization (ORG=slug)
	@$(PSQL) -qXv slug='$(ORG)' -v at=null -f sql/operations/suspend_organization.sql

unlock: .venv/.installed ## Reset an account's failed login attempts (EMAIL)
	@$(PSQL) -qXv email='$(EMAIL)' -f sql/operations/unlock_account.sql

grant-reporting: .venv/.installed ## Make a login that reads one organization (LOGIN, ORG=slug; PERSONAL=1 for names and free texts)
	@$(PSQL) -qXv login='$(LOGIN)' -v slug='$(ORG)' -v personal='$(PERSONAL)' -f sql/operations/grant_reporting.sql

revoke-reporting: .venv/.installed ## Remove a reporting login (LOGIN)
	@$(PSQL) -qXv login='$(LOGIN)' -f sql/operations/revoke_reporting.sql

CHECKS = $(sort $(wildcard sql/audit/[0-9]*.sql))
audit: .venv/.installed ## Search the live catalog for faults of sql/audit; fails where one is found
	@found=$$($(PSQL) -qXAt -F "$$(printf '\n    ')" -v ON_ERROR_STOP=1 \
		-c "select where 'app.claims'::regclass is null" $(CHECKS:%=-f %)) || exit 2; \
	if [ -n "$$found" ]; then printf '%s\n' "$$found"; exit 1; fi; \
	echo "healthy: $(words $(CHECKS)) checks, no finding"

permissions: .venv/.installed-dev ## Write sql/PERMISSIONS.md from a fresh database, or from the one at DATABASE_URL
	@$(BIN)/python -m app.dev.permissions > sql/PERMISSIONS.md

audit-heads: .venv/.installed ## Print the last seal of each organization's audit log, to be stored elsewhere
	@$(PSQL) -qXAt -F ' ' -c 'select * from app.audit_heads()'

audit-verify: .venv/.installed ## Compare the audit log with its seals, and with stored heads (HEADS=file); fails if an entry was changed
	@found=$$(HEADS='$(HEADS)' $(PSQL) -qXAt -F "$$(printf '\n    ')" -v ON_ERROR_STOP=1 \
		-f sql/operations/verify_audit.sql) || exit 2; \
	if [ -n "$$found" ]; then printf '%s\n' "$$found"; exit 1; fi; \
	echo "verified: no entry of the audit log was changed after it was sealed"

totals-verify: .venv/.installed ## Compare the totals of statistics with the claims; fails if they differ
	@found=$$($(PSQL) -qXAt -v ON_ERROR_STOP=1 -f sql/operations/verify_totals.sql) || exit 2; \
	if [ -n "$$found" ]; then printf '%s\n' "$$found"; exit 1; fi; echo "verified: the totals equal the sums of the claims"

.PHONY: who-can-see
who-can-see: .venv/.installed ## List the users who can read a row, with the policies that let them (TABLE=claims KEY=id)
	@$(PSQL) -qXv table='$(TABLE)' -v key='$(KEY)' -f sql/operations/who_can_see.sql
