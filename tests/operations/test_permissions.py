"""sql/PERMISSIONS.md: the rights that a database grants, with a description of each rule that must match the rule."""

import re

import psycopg

from app.database.schema_files import SQL
from app.operations.permissions import document, read
from app.operations.permissions_labels import LABELS, RESTRICTIVE


def written(connection):
    return document(read(connection)) + "\n"


def squeezed(text):
    return re.sub(" +", " ", text)


def test_the_committed_document_is_what_a_database_grants(as_root):
    assert (SQL / "PERMISSIONS.md").read_text() == written(as_root), "run make permissions"


def test_the_auditor_reads_the_same(settings, as_root):
    expected = written(as_root)
    with psycopg.connect(settings.database_url) as connection:
        connection.execute("set session authorization claims_auditor")
        assert written(connection) == expected


CHANGES = [
    ("grant delete on claims to claims_admin", "| claims_admin | all | all (a) | all (b) | nothing: no policy |"),
    ("grant select (name) on users to claims_trigger_definer", "| claims_trigger_definer | nothing: no policy (d) |"),
    ("grant truncate on claims to claims_worker", "**claims_worker may truncate.**"),
    ("grant select on claims to public", "| PUBLIC | nothing: no policy |"),
    ("revoke insert on claims from claims_provider, claims_admin; revoke insert (notes) on claims from claims_admin",
     "(a) approved_cents, status, notes, denial_reason, denial_code, assigned_to, status_reason"),
    ("alter policy claims_provider_select on claims using (true)", "| claims_provider | all | own by provider_id (a) |"),
    ("alter policy claims_provider_select on claims using (provider_id is not null)", "| `provider_id IS NOT NULL` |"),
    ("alter policy claims_auth_definer_update on claims with check (true)", "| unassigned; with check all (e) |"),
    ("create policy more on claims for select to claims_provider using (status = 'paid')",
     "| own by provider_id; or `status = 'paid'` |"),
    ("create policy more on claims for delete to claims_admin using (true)", "more for delete to claims_admin using (true)"),
    ("create policy less on claims as restrictive to claims_admin using (false)", "**Further restrictive policies: less.**"),
    ("drop policy claims_tenant on claims", "Tables without all three: app.claim_transitions, app.claims,"),
    ("drop policy claims_tenant on claims", "| claims_admin | of every organization | of every organization (a) |"),
    ("alter policy claims_tenant on claims to claims_admin", "**Without `_tenant`.**"),
    ("alter policy claims_tenant on claims using (true)", "**Without `_tenant`.**"),
    ("alter policy claims_tenant on claims with check (true)", "**Without `_tenant`.**"),
    ("drop policy claims_requires_context on claims", "**Without `_requires_context`.**"),
    ("alter policy claims_tenant on claims to claims_admin", "**Without `_tenant`.**"),
    ("alter policy patients_requires_context on patients to claims_admin",
     "`_requires_context` applies only to some roles: app.claims, app.organizations, app.patients, app.users"),
    ("alter policy claims_requires_context on claims using (true)", "**Without `_requires_context`.**"),
    ("alter policy claims_context on claims using (true)", "**Without `_context`.**"),
    ("alter policy claims_context on claims to claims_admin", "claims_context as restrictive for all to claims_admin\n"),
    ("alter policy patients_context on patients to claims_admin",
     "`_context` applies only to some roles: app.claims, app.organizations, app.patients, app.users"),
    ("alter table claims disable row level security", "**Row-level security is off.**"),
    ("alter table claims no force row level security", "**Row-level security is not for the owner.**"),
    ("create table notes ()",
     "## app.notes\n\n**No file has the policies of this table.**\n\n**Without `_tenant`, `_requires_context`, `_context`.**"),
    ("grant claims_auth_definer to claims_api", "claims_api (a login) may become claims_admin, claims_auth_definer"),
    ("grant usage on schema procrastinate to claims_api", "Usage of the schema procrastinate: claims_api"),
    ("grant create on schema app to claims_api", "claims_api, claims_api (create)"),
    ("grant select on procrastinate.procrastinate_jobs to claims_api",
     "- procrastinate: claims_api may select on procrastinate_jobs."),
    ("grant execute on function app.retry_job to claims_patient",
     "**claims_admin, claims_patient**\n\n- as claims_trigger_definer: app.retry_job(uuid)"),
    ("comment on function app.uuid7 is 'A new id'", "app.uuid7() (A new id)"),
    ("alter function app.uuid7 security definer", "- as claims_owner: app.uuid7()"),
    ("revoke update on claims from claims_owner", "It lacks update on app.claims."),
]  # fmt: skip


def test_a_change_of_a_right_is_in_the_document(as_root):
    before = written(as_root)
    for change, said in CHANGES:
        with as_root.transaction(force_rollback=True):
            as_root.execute(change)
            after = squeezed(written(as_root))
        assert said in after, (change, said)
        assert said not in squeezed(before), change
    assert written(as_root) == before


def test_every_rule_has_a_label_and_every_label_a_rule(as_root):
    facts = read(as_root)
    rules = {policy[part] for policy in facts["policies"] for part in ("using", "check")} - {None, "true"}
    said = LABELS.keys() | {rule for one in RESTRICTIVE.values() for rule in one[:2]} - {None, "true"}
    assert rules - said == set(), "add them to app/operations/permissions_labels.py"
    # A rule may call context.verified_id for rows it reads and context.required_id for those it writes: the label is the same.
    either = {rule.replace("verified_id", "required_id") for rule in rules}
    assert {rule.replace("verified_id", "required_id") for rule in said} - either == set(), "no policy says so any more"


def test_every_tenant_table_is_closed_to_every_role(as_root):
    tables = [table for table in read(as_root)["tables"] if table["schema"] == "app" and table["by_tenant"]]
    assert len(tables) >= 12  # control
    assert [table["table"] for table in tables if table["closed"] != [*RESTRICTIVE]] == []


def test_its_lines_are_readable():
    assert max(map(len, (SQL / "PERMISSIONS.md").read_text().splitlines())) <= 150
