"""Labels for the rules of sql/policies, used in sql/PERMISSIONS.md."""

import re

RESTRICTIVE = {
    "tenant": (
        "organization_id = context.variable('organization_id')",
        None,
        "no row outside the organization of the context",
    ),
    "requires_context": (
        "organization_id = ((SELECT context.required_id(CURRENT_USER) AS required_id))",
        "true",
        "no scan outside a verified context",
    ),
    "context": (
        "context.matches(organization_id, (SELECT context.verified_id(CURRENT_USER) AS verified_id))",
        "context.matches(organization_id, (SELECT context.required_id(CURRENT_USER) AS required_id))",
        "no row of another organization than the verified one",
    ),
}
"""The restrictive policies <table>_<name> of every tenant table: the rule, its `with check` if it differs, and its label."""

ALL, ALL_ORGANIZATIONS = "all", "of every organization"


def _full_rule(rule: str, function: str) -> str:
    """Replaces :user, :provider and :patient by the expressions of the policies. function: the one that reads the verified id."""
    for kind in ("user", "provider", "patient"):
        verified = f"(SELECT context.{function}(CURRENT_USER, '{kind}_id') AS {function})"
        rule = re.sub(
            rf"([\w.]+) = :{kind}\b", rf"\1 = context.variable('{kind}_id') AND context.matches(\1, {verified})", rule
        )
        rule = rule.replace(f":{kind}", f"({verified})")
    return rule


LABELS = {
    _full_rule(rule, function): label
    for function in ("verified_id", "required_id")  # of rows that are read, and of rows that are written
    for rule, label in {
        "provider_id = :provider": "own by provider_id",
        "patient_id = :patient": "own by patient_id",
        "user_id = :user": "own by user_id",
        "scope_id = :provider": "own by scope_id",
        "scope_id = organization_id": "of the whole organization",
        "assigned_to = :user": "own by assigned_to",
        "patient_id = :patient AND context.differs(status, 'draft')": "own by patient_id, no drafts",
        "assigned_to = :user AND context.differs(status, 'draft')": "own by assigned_to, no drafts",
        "patient_id = :patient AND (entity <> 'claims' OR (entity_id IN (SELECT c.claim_id FROM claims c)))": (
            "own by patient_id, of claims only visible ones"
        ),
        "assigned_to IS NULL AND (status = ANY (ARRAY['submitted', 'pending_info', 'appealed']))": "unassigned",
        "assigned_to IS NULL AND (status = ANY (ARRAY['submitted', 'pending_info', 'appealed'])) OR assigned_to = :user": (
            "unassigned, or own by assigned_to"
        ),
        "accepted_at IS NULL": "not accepted yet",
        "organization_id = context.variable('organization_id')": "of the organization",
        ":provider IS NOT NULL": "any, if the caller is a provider",
        "(EXISTS (SELECT FROM patients p WHERE p.patient_id = job_processing_logs.patient_id))": "of visible patients",
        "(EXISTS (SELECT FROM patients p WHERE p.patient_id = patient_status_events.patient_id))": "of visible patients",
        "(SELECT c.version > 0 FROM claims c WHERE c.claim_id = claim_status_history.claim_id)": "of visible claims",
        "(EXISTS (SELECT FROM claims c WHERE c.patient_id = patients.patient_id AND c.assigned_to = :user))": (
            "of claims assigned to the caller"
        ),
        "(EXISTS (SELECT FROM care_relationships r WHERE r.patient_id = patients.patient_id AND r.provider_id = :provider))": (
            "in the caller's care"
        ),
        "(provider_id IN (SELECT r.provider_id FROM care_relationships r WHERE r.patient_id = :patient "
        "UNION ALL SELECT c.provider_id FROM claims c WHERE c.patient_id = :patient))": "of the caller's care and claims",
    }.items()
}
"""The labels by rule. The key is the complete rule, so that a changed rule loses its label; it is then shown as SQL."""

HEAD = """# Permissions

The permissions of all roles. `make permissions` writes this file from the catalog of a database, and a test compares it
with a fresh database. Two statements for claims_auditor in psql: `\\i sql/operations/permissions.sql` shows the same facts,
and `select * from app.who_can_see('claims', '<claim_id>');` lists the users who can read that row, with the policies that
let them.

A cell of a table contains the rows that a role may access:

- `all`: all rows of the organization.
- `own by` a column: the rows in which that column contains the caller's id.
- `unassigned`: open claims that are assigned to no processor.
- `with check`: the condition on a row after the change.
- `-`: no grant.
- `(a)`: a grant on some columns, which are listed below the table.

A role that is not listed has no rights on the table. The SQL of the policies follows each table."""
