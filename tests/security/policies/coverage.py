"""A pytest plugin for the coverage of policies, as pgrls counts it. A whole run that leaves a policy out fails.

pgrls's own plugin counts the statements of its own client under `set role`. Ours run through the API's pool, and those of
claims_auth_definer and claims_trigger_definer inside functions and triggers, where no client sees them. So the server records
every statement, nested ones included, with its role (pg_stat_statements). pgrls parses their tables and commands, and finds the
policies of the table, the role and the command. The statements that seed the cast do not count. `.pgrls-coverage.json` is the
input of `pgrls coverage`. Only the embedded server is measured, because it is started with the extension.
"""

import functools
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from pgrls.coverage import DEFAULT_ARTIFACT_PATH as ARTIFACT
from pgrls.coverage import (
    CoverageData,
    CoverageReport,
    ExercisedTuple,
    build_coverage,
    exercised_from_sql,
    write_artifact,
)
from pgrls.model import Schema
from psycopg.conninfo import make_conninfo

from app.dev import postgres
from tests.security.policies.lint import read_schema

KEEP = {"track": "all", "track_utility": "off", "max": "10000", "save": "off"}

STATEMENTS = """
select distinct rolname, query from pg_stat_statements join pg_roles on pg_roles.oid = userid
where not rolsuper
  and query !~ ' ONLY '  -- a foreign key's own check, which no policy binds"""

EXERCISED = pytest.StashKey[set[ExercisedTuple]]()
SCHEMA = pytest.StashKey[str]()
REPORT = pytest.StashKey[CoverageReport]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[EXERCISED] = set()
    postgres.FAST["shared_preload_libraries"] = "pg_stat_statements"
    postgres.FAST.update({f"pg_stat_statements.{name}": value for name, value in KEEP.items()})


def is_measured() -> bool:
    """Whether the tests' server is the embedded one."""
    return not {"TEST_DATABASE_URL", "TEST_DATABASE"} & set(os.environ)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any, request: pytest.FixtureRequest) -> Iterator[None]:
    made = yield
    if fixturedef.argname in ("template", "settings") and is_measured():
        url = request.getfixturevalue("server_url")
        if fixturedef.argname == "template":
            forget(url)
            request.config.stash[SCHEMA] = json.dumps(read_schema(make_conninfo(url, dbname=made)).to_snapshot())
        else:
            fixturedef.addfinalizer(lambda: collect(request.config, url))
    return made


def forget(url: str) -> None:
    """Resets the recorded statements; those of a whole run are more than the server keeps."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("create extension if not exists pg_stat_statements")
        admin.execute("select pg_stat_statements_reset()")


def collect(config: pytest.Config, url: str) -> None:
    """Adds the accesses of one test."""
    config.stash[EXERCISED] |= exercised(url)
    forget(url)


def exercised(url: str) -> set[ExercisedTuple]:
    """The accesses since the last reset: table, role and command."""
    with psycopg.connect(url) as admin:
        found = admin.execute(STATEMENTS).fetchall()
    return {ExercisedTuple(schema, table, role, did) for role, query in found for schema, table, did in accesses(query)}


@functools.cache
def accesses(query: str) -> list[tuple[str | None, str, str]]:
    """The tables of a statement, with their schemas if it names them, each with the command."""
    return exercised_from_sql(query)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """In the process that started the others: the accesses that one of them collected."""
    if found := getattr(node, "workeroutput", {}).get("policies"):
        node.config.stash[EXERCISED] |= {ExercisedTuple(*one) for one in found["exercised"]}
        node.config.stash[SCHEMA] = found["schema"]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if SCHEMA not in config.stash:
        return
    exercised = config.stash[EXERCISED]
    if hasattr(config, "workeroutput"):
        rows = [(one.schema, one.relation, one.role, one.command) for one in exercised]
        config.workeroutput["policies"] = {"exercised": rows, "schema": config.stash[SCHEMA]}
    elif whole(config) and exitstatus == pytest.ExitCode.OK:
        write_artifact(str(config.rootpath / ARTIFACT), exercised, generated_at=datetime.now(UTC))
        schema = Schema.from_snapshot(json.loads(config.stash[SCHEMA]))
        config.stash[REPORT] = report = build_coverage(schema, CoverageData(frozenset(exercised)))
        if missing(report):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def whole(config: pytest.Config) -> bool:
    """Whether every test was selected."""
    chosen = config.option.keyword or config.option.markexpr or getattr(config.option, "lf", False)
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS and not chosen


def missing(report: CoverageReport) -> list[str]:
    return [one.location for one in report.policies if not one.covered]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if report := config.stash.get(REPORT, None):
        figures = report.summary
        terminalreporter.write_line(
            f"pgrls coverage: {figures['covered']} of {figures['policies']} policies exercised ({figures['coverage_pct']}%)"
        )
        for location in missing(report):
            terminalreporter.write_line(f"  no test exercises {location}", red=True)
