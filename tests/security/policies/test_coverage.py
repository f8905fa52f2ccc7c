"""The coverage of policies: it comes from the server's statements, and a policy without a test fails the run."""

import json
from types import SimpleNamespace

import psycopg
import pytest
from click.testing import CliRunner
from pgrls.cli import main as pgrls
from pgrls.coverage import ExercisedTuple

from tests.security.policies import coverage as policy_coverage
from tests.security.policies.coverage import ARTIFACT, EXERCISED, REPORT, SCHEMA
from tests.security.policies.lint import CONFIG_FILE, read_schema


@pytest.mark.skipif(not policy_coverage.is_measured(), reason="only the embedded server is measured")
def test_statements_inside_functions_count_and_those_without_policies_do_not(server_url, as_role, as_root):
    as_root.execute("select from job_processing_logs")
    as_role("alma").execute("insert into invitations (email, role, token_hash) values ('a@b.test', 'admin', '')")
    found = policy_coverage.exercised(server_url)
    assert ExercisedTuple(None, "invitations", "claims_admin", "INSERT") in found
    assert ExercisedTuple(None, "audit_logs", "claims_trigger_definer", "INSERT") in found  # by a trigger
    # By a function that a policy calls.
    assert ExercisedTuple("context", "keys", "claims_auth_definer", "SELECT") in found
    # Controls: the check of a foreign key was recorded, and so were the administrator's statements.
    with psycopg.connect(server_url) as admin:
        kept = admin.execute(
            "select rolname, query from pg_stat_statements join pg_roles r on r.oid = userid"
        ).fetchall()
    assert any(role == "claims_owner" and " ONLY " in query for role, query in kept)
    assert (as_root.info.user, "select from job_processing_logs") in kept
    assert not {one for one in found if one.role in ("claims_owner", as_root.info.user)}


def test_a_run_without_a_policy_fails(settings, tmp_path):
    schema = read_schema(settings.database_url)
    every = {
        ExercisedTuple(table.schema, table.name, role, "SELECT" if policy.command == "ALL" else policy.command)
        for table in schema.tables
        for policy in table.policies
        for role in policy.roles
    }
    left_out = ExercisedTuple("app", "invitations", "claims_admin", "DELETE")

    def finish(exercised):
        config = SimpleNamespace(
            stash=pytest.Stash(),
            rootpath=tmp_path,
            args_source=pytest.Config.ArgsSource.TESTPATHS,
            option=SimpleNamespace(keyword="", markexpr=""),
        )
        config.stash[EXERCISED], config.stash[SCHEMA] = exercised, json.dumps(schema.to_snapshot())
        session = SimpleNamespace(config=config, exitstatus=pytest.ExitCode.OK)
        policy_coverage.pytest_sessionfinish(session, pytest.ExitCode.OK)
        command = ["coverage", "--config", str(CONFIG_FILE), "--database-url", settings.database_url]
        command += ["--coverage", str(tmp_path / ARTIFACT), "--fail-under", "100"]
        return session.exitstatus, policy_coverage.missing(config.stash[REPORT]), CliRunner().invoke(pgrls, command)

    status, missing, said = finish(every)
    assert (status, missing, said.exit_code) == (0, [], 0), said.output
    assert "(100.0%)" in said.output
    status, missing, said = finish(every - {left_out})
    assert (status, missing, said.exit_code) == (1, ["app.invitations.invitations_admin_delete"], 1)
