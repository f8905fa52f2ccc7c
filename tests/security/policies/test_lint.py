"""`make lint` finds nothing wrong with the policies of a fresh database, and finds each fault injected here."""

from contextlib import nullcontext
from typing import NamedTuple

import pytest

from tests.security.audit.test_checks import CHECKS, find
from tests.security.policies import lint as lint_policies
from tests.security.policies.lint import lint, verify
from tests.security.test_isolation import TABLES

TENANT = "organization_id = context.variable('organization_id')"


class Fault(NamedTuple):
    """A fault: its statement, the rule of pgrls that finds it, the proof's verdict on the table. One of the two is set."""

    change: str
    rule: str | None
    proof: str | None


FAULTS = {
    "policy dropped": Fault("drop policy claims_tenant on claims", "OUR_SEC038", "app.claims UNVERIFIED"),
    "policy loosened to true": Fault(
        "alter policy claims_tenant on claims using (true)", "SEC031", "app.claims UNVERIFIED"
    ),
    "policy loosened for some rows": Fault(
        f"alter policy claims_tenant on claims using ({TENANT} or status = 'paid')", None, "app.claims LEAK"
    ),
    "policy for reading alone": Fault(
        "drop policy claims_tenant on claims; "
        f"create policy claims_tenant on claims as restrictive for select using ({TENANT})",
        "OUR_SEC028",
        "app.claims UNVERIFIED",
    ),
    "policy for one role alone": Fault(
        "alter policy claims_tenant on claims to claims_admin", "OUR_SEC008", "app.claims UNVERIFIED"
    ),
    "policy that checks nothing written": Fault(
        f"alter policy claims_tenant on claims using ({TENANT}) with check (true)", "OUR_SEC020", "app.claims LEAK"
    ),
    "policy that compares another column": Fault(
        "alter policy claims_tenant on claims using (patient_id = context.variable('organization_id'))",
        "SEC035",
        "app.claims UNVERIFIED",
    ),
    "row-level security not forced": Fault("alter table claims no force row level security", "SEC002", None),
    "row-level security off": Fault("alter table claims disable row level security", "SEC032", "{fewer} of {all}"),
    "table without row-level security": Fault(
        "create table notes (organization_id uuid, note text)", "SEC001", "{all} of {more}"
    ),
    "table without a tenant policy": Fault(
        "create table notes (organization_id uuid, note text); alter table notes enable row level security, "
        "force row level security; create policy notes_admin_select on notes for select to claims_admin using (true)",
        "OUR_SEC008",
        "app.notes UNVERIFIED",
    ),
    "table outside tenants opened": Fault(
        "create policy sessions_admin on auth.sessions for select to claims_admin using (true)", "OUR_SEC038", None
    ),
    "keys opened": Fault("alter policy keys_auth_definer on context.keys to public", "OUR_SEC008", None),
    "signature checked for each row": Fault(
        "alter policy claims_context on claims using (context.matches(organization_id, context.required_id(current_user)))",
        "PERF001",
        None,
    ),
    "signature checked for each row above the scan": Fault(
        "alter policy claims_requires_context on claims using (organization_id = context.required_id(current_user))",
        "PERF001",
        None,
    ),
    "policy that checks nothing written, of another name": Fault(
        "create policy extra on claims as restrictive using (amount_cents > 0) with check (true)", "OUR_SEC020", None
    ),
    "condition without an index": Fault(
        "alter policy claims_patient_select on claims using (denial_code = 'none')", "OUR_PERF003", None
    ),
    "definer function of the owner": Fault(
        "create function auth.peek() returns int language sql security definer set search_path = app, pg_temp return 1; "
        "alter function auth.peek owner to claims_owner",
        "OUR_SEC014",
        None,
    ),
    "trigger of the owner": Fault(
        "create function peek() returns trigger language plpgsql security definer set search_path = app, pg_temp "
        "as 'begin return new; end'; alter function peek owner to claims_owner; "
        "create trigger claims_95_peek after insert on claims for each row execute function peek()",
        "OUR_SEC013",
        None,
    ),
}


def test_a_fresh_database_is_clean(settings):
    assert lint(settings.database_url) == (True, "pgrls: no issues found.\n")
    proven, output = verify(settings.database_url)
    assert proven, output


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_an_injected_fault_is_found(settings, as_root, fault):
    as_root.execute(fault.change)
    clean, output = lint(settings.database_url)
    assert clean == (fault.rule is None), output
    assert fault.rule is None or f" {fault.rule} " in output, output
    proven, output = verify(settings.database_url)
    assert proven == (fault.proof is None), output
    whole = len(TABLES)
    expected = (fault.proof or "").format(fewer=whole - 1, all=whole, more=whole + 1)
    assert expected in " ".join(output.split()), output


def test_the_audit_finds_a_fault_that_no_rule_of_pgrls_finds(settings, as_root):
    """pgrls does not know that a scan starts with a check of the context.

    To it `<table>_requires_context` has the meaning of `<table>_context`.
    """
    as_root.execute("drop policy claims_requires_context on claims")
    assert lint(settings.database_url)[0]
    assert verify(settings.database_url)[0]
    (check,) = (path for path in CHECKS if path.name.startswith("022_"))
    assert [found for _, found, _, _ in find(as_root, check)] == ["app.claims"]


def test_it_fails_if_either_finds_something(settings, as_root, monkeypatch):
    monkeypatch.setattr(lint_policies, "fresh_database", lambda: nullcontext(settings.database_url))
    assert lint_policies.main() == 0
    as_root.execute(FAULTS["policy loosened for some rows"].change)  # the proof alone
    assert lint_policies.main() == 1
    as_root.execute(
        f"alter policy claims_tenant on claims using ({TENANT}); alter table claims no force row level security"
    )
    assert lint_policies.main() == 1  # the rules alone
