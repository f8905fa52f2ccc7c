"""The rules of sql/policies in words, for sql/PERMISSIONS.md."""

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
"""The restrictive policies <table>_<name> that every tenant table has: the rule, what it checks of what is written, and its words."""

ALL, ALL_OF_EVERYBODY = "all", "of every organization"


def _whole(rule: str, asked: str) -> str:
    for who in ("user", "provider", "patient"):
        verified = f"(SELECT context.{asked}(CURRENT_USER, '{who}_id') AS {asked})"
        rule = re.sub(
            rf"([\w.]+) = :{who}\b", rf"\1 = context.variable('{who}_id') AND context.matches(\1, {verified})", rule
        )
        rule = rule.replace(f":{who}", f"({verified})")
    return rule


WORDS = {
    _whole(rule, asked): words
    for asked in ("verified_id", "required_id")  # of rows that are found, and of rows that are written
    for rule, words in {
        "provider_id = :provider": "own by provider_id",
        "patient_id = :patient": "own by patient_id",
        "user_id = :user": "own by user_id",
        "scope_id = :provider": "own by scope_id",
        "scope_id = organization_id": "of the whole organization",
        "assigned_to = :user": "own by assigned_to",
        "patient_id = :patient AND context.differs(status, 'draft')": "own by patient_id, no drafts",
        "assigned_to = :user AND context.differs(status, 'draft')": "own by assigned_to, no drafts",
        "patient_id = :patient AND (entity <> 'claims' OR (entity_id IN (SELECT c.claim_id FROM claims c)))": (
            "own by patient_id, of claims those it sees"
        ),
        "assigned_to IS NULL AND (status = ANY (ARRAY['submitted', 'pending_info', 'appealed']))": "untaken",
        "assigned_to IS NULL AND (status = ANY (ARRAY['submitted', 'pending_info', 'appealed'])) OR assigned_to = :user": (
            "untaken, or own by assigned_to"
        ),
        "accepted_at IS NULL": "not accepted yet",
        "organization_id = context.variable('organization_id')": "of the organization",
        ":provider IS NOT NULL": "any, for who is a provider",
        "(EXISTS (SELECT FROM patients p WHERE p.patient_id = job_processing_logs.patient_id))": "of patients it sees",
        "(EXISTS (SELECT FROM patients p WHERE p.patient_id = patient_status_events.patient_id))": "of patients it sees",
        "(SELECT c.version > 0 FROM claims c WHERE c.claim_id = claim_status_history.claim_id)": "of claims it sees",
        "(EXISTS (SELECT FROM claims c WHERE c.patient_id = patients.patient_id AND c.assigned_to = :user))": (
            "of claims assigned to it"
        ),
        "(EXISTS (SELECT FROM care_relationships r WHERE r.patient_id = patients.patient_id AND r.provider_id = :provider))": (
            "in its care"
        ),
        "(provider_id IN (SELECT r.provider_id FROM care_relationships r WHERE r.patient_id = :patient "
        "UNION ALL SELECT c.provider_id FROM claims c WHERE c.patient_id = :patient))": "of its care and its claims",
    }.items()
}
"""A rule in words. The key is the whole rule, so that no words outlive a change of it; a rule without words says itself."""

HEAD = """# Permissions

Who may do what, written by `make permissions` from the catalog of a database; a test compares it with a fresh one. The
same facts in psql, as claims_auditor: `\\i sql/operations/permissions.sql`. Who could read one row, by the policies
themselves: `select * from who_can_see('claims', '<claim_id>')`.

A cell says which rows the policies open to a role: `all` is all of the organization, "own by" a column those where it
is the caller's; `with check` is how a row must be afterwards. `-`: no grant. `(a)`: a grant by column, and the columns
stand below. A role without a line has nothing. The SQL of the policies follows."""
