"""Statements of sql/queries for the tests of plans: the callers that run each of them, and its parameters."""

import csv
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row

from app.database import statements
from app.security.tokens import Caller

Params = dict[str, Any]
LARGEST, SMALLEST = "tenant-1", "tenant-20"
MONTH = timedelta(days=30)
NOWHERE = UUID(int=0)
OPEN = ["submitted", "under_review", "pending_info"]


class Exempt(NamedTuple):
    """An exception from the rule, up to a number of rows.

    query, role and filters are patterns; filters are the names of the given ones, in order. The first line that matches applies.
    most: rows at 30,000 claims and at 300,000, a quarter above the measured number; 0 where the rule holds.
    scans: the line is about sequential scans and the rows that they read; no other line may allow one. ANALYZE's sample decides
    whether PostgreSQL scans where half of a table is needed, so such a line may be unused. Any other unused line is a fault.
    """

    query: str
    role: str
    filters: str
    most: tuple[int, int]
    why: str
    scans: bool = False


OWN_RANGE = "a range in one column in the order of another: no index has both, so it is scanned or sorted"
SEVERAL = "three statuses at once: an index has the order of each, none that of all together; scanned or sorted"
WORKERS_OWN = (
    "the amounts of all are scanned for one worker's: an index would slow every assignment down for a rare order"
)
PREFIX = "numbers are found by their prefix; a caller with few claims, or one status, discards the other hits"
ONE_OF_TWO = "two facts, one index: the rarer fact finds the rows, the other is a filter on them"
IN_CARE = "a caller with few patients: each of the organization's is looked up in a hash of them; 15,000 take two milliseconds"
OWN_ENTRIES = "a patient's own entries are few, those of the filter among them are fewer"
COUNTED = "a count ends at 10,001; for every second row the table is faster than an index"
NOT_THEIRS = "unassigned claims, for a caller who may see only his own"
EXEMPT = [
    Exempt("claims.list.*service_date", "admin", "created_*", (9_400, 100_000), OWN_RANGE),
    Exempt("claims.list.*created_at", "admin", "service_date_*", (9_400, 99_000), OWN_RANGE),
    Exempt("claims.list.*service_date", "provider", "created_*", (4_300, 13_000), OWN_RANGE),
    Exempt("claims.list.*created_at", "provider", "*service_date_*", (4_300, 13_000), OWN_RANGE),
    Exempt("claims.list.*service_date", "claims_processor", "created_*", (3_200, 2_500), OWN_RANGE),
    Exempt("claims.list.*created_at", "claims_processor", "service_date_*", (3_200, 2_500), OWN_RANGE),
    Exempt("claims.list.*amount_cents", "admin", "created_*", (970, 11_000), OWN_RANGE),
    Exempt("claims.list.*amount_cents", "admin", "service_date_*", (900, 11_000), OWN_RANGE),
    Exempt("claims.list.*amount_cents", "provider", "created_*", (0, 460), OWN_RANGE),
    Exempt("claims.list.*amount_cents", "provider", "*service_date_*", (180, 570), OWN_RANGE),
    Exempt("claims.list.*", "admin", "*_*, statuses", (1_200, 21_000), SEVERAL),
    Exempt("claims.list.*", "admin", "statuses", (5_100, 5_300), SEVERAL),
    Exempt("claims.*", "provider", "diagnosis_code*", (0, 23_000), ONE_OF_TWO),
    Exempt("claims.list.*", "claims_processor", "diagnosis_code*", (0, 450), ONE_OF_TWO),
    Exempt("claims.*", "*", "claim_number*", (0, 750), PREFIX),
    Exempt("claims.list.*amount_cents", "admin", "assigned_to*", (0, 1_700), WORKERS_OWN),
    Exempt("claims.list.*amount_cents", "admin", "provider_id", (0, 2_100), WORKERS_OWN),
    Exempt(
        "claims.list.*",
        "admin",
        "status, unassigned",
        (0, 190_000),
        "every paid claim was assigned: none is found, and the planner expects a thousand",
    ),
    Exempt("claims.list.*amount_cents", "admin", "status", (0, 6_200), ONE_OF_TWO),
    Exempt("claims.list.*", "admin", "unassigned", (0, 3_000), ONE_OF_TWO),
    Exempt("claims.*", "claims_processor", "provider_id*", (0, 2_200), ONE_OF_TWO),
    Exempt("claims.list.*amount_cents", "claims_processor", "*", (0, 2_900), WORKERS_OWN),
    Exempt("claims.*", "p*", "status*, unassigned", (0, 1_300), NOT_THEIRS),
    Exempt("claims.list.*", "provider", "*statuses", (180, 7_200), SEVERAL),
    Exempt("claims.list.*", "provider", "*status", (390, 1_700), ONE_OF_TWO),
    Exempt("claims.list.*", "provider", "assigned_to*", (0, 310), ONE_OF_TWO),
    Exempt("claims.count", "provider", "*status*", (180, 5_400), ONE_OF_TWO),
    Exempt("claims.list.*amount_cents", "admin", "*status", (0, 3_300), ONE_OF_TWO),
    Exempt("patients.*", "claims_processor", "*", (1_900, 19_000), IN_CARE),
    Exempt("patients.*", "provider", "*", (1_900, 19_000), IN_CARE),
    Exempt("audit_logs.*", "patient", "action*", (0, 180), OWN_ENTRIES),
    Exempt("audit_logs.*", "admin", "action, *", (2_000, 59_000), ONE_OF_TWO),
    Exempt("organizations.change", "admin", "", (310, 310), "PostgreSQL lists every time zone to find one name"),
    Exempt("idempotency_keys.store", "*", "", (630, 6_300), "what is kept is measured, every five seconds at most"),
    Exempt("queue.process", "system", "", (180, 1_800), ONE_OF_TWO),
    Exempt("*.count", "admin", "*", (26_000, 160_000), COUNTED, scans=True),
]

OPERATIONS = {
    "create claim": "claims.create",
    "list claims": "claims.list claims.count",
    "read claim": "claims.get",
    "change claim status": "claims.exists claims.update_status claims.update_notes claims.lock_unchanged",
    "bulk status update": "claims.update_status_bulk",
    "claim statistics": "claims.stats",
    "assign claim": "claims.exists claims.assign",
    "take next claim": "claims.assign_next",
    "import claims": "claims.reserve_import claims.import_lines",
    "export claims": "claims.record_export claims.list",
    "list patients": "patients.list_newest patients.count",
    "read patient": "patients.get patients.exists",
    "create patient": "patients.create patients.get_by_member_number",
    "change patient": "patients.get patients.change",
    "set care relationship": "patients.set_care",
    "end care relationship": "patients.end_care",
    "list providers": "providers.list_newest providers.count",
    "read provider": "providers.get",
    "create provider": "providers.create",
    "change provider": "providers.get providers.change",
    "list users": "users.list_newest users.count",
    "change user": "users.lock users.change",
    "reassign a user's claims": "users.reassign",
    "invite": "invitations.create",
    "list invitations": "invitations.list_newest invitations.count",
    "withdraw invitation": "invitations.withdraw",
    "read organization": "organizations.get",
    "change organization": "organizations.change",
    "search diagnosis codes": "diagnosis_codes.list diagnosis_codes.count",
    "create status event": "patient_status_events.create patient_status_events.get_by_key",
    "status history": "patient_status_events.patient_exists patient_status_events.list_newest patient_status_events.count",
    "list jobs": "job_processing_logs.list_newest job_processing_logs.count",
    "retry job": "job_processing_logs.retry",
    "audit log": "audit_logs.record_reading audit_logs.list_newest audit_logs.count",
    "who am I": "auth.me auth.record_login idempotency_keys.reserve idempotency_keys.store",
    "change password": "auth.find_password auth.set_password",
    "log out": "auth.log_out",
}
"""The statements behind each row of the access matrix. A statement of every caller is listed with a row that all may use."""


def run_by(role: str) -> set[str]:
    """The statements that a role of the product may run, by the access matrix."""
    with (Path(__file__).parents[1] / "http" / "access-matrix.csv").open() as file:
        may = [row["operation"] for row in csv.DictReader(file) if row[role] != "no"]
    return {name for operation in may for name in OPERATIONS.get(operation, "").split()}


_BUSY_AND_IDLE = """
with ranked as (
    select u.role, u.user_id, u.organization_id, u.email, u.provider_id, u.patient_id,
        row_number() over (partition by u.role order by n, u.email) as best,
        row_number() over (partition by u.role order by n desc, u.email desc) as worst
    from users u join organizations o using (organization_id), lateral (
        select -count(*) from claims c
        where c.organization_id = u.organization_id and (u.role = 'claims_processor' and c.assigned_to = u.user_id
            or u.role = 'provider' and c.provider_id = u.provider_id or u.role = 'patient' and c.patient_id = u.patient_id)) as work (n)
    where o.slug = %s and (u.role <> 'patient' or u.email like '%%0@%%')
)
select * from ranked where best = 1 or worst = 1"""

_ROWS = """
with mine as materialized (
    select c.* from claims c
    where c.organization_id = %(organization_id)s and case %(role)s
        when 'claims_processor' then c.assigned_to = %(user_id)s and c.status <> 'draft'
        when 'provider' then c.provider_id = %(provider_id)s
        when 'patient' then c.patient_id = %(patient_id)s and c.status <> 'draft'
        else true end
),
claim as (
    (select 1 as rank, mine.* from mine order by created_at offset (select count(*) / 2 from mine) limit 1)
    union all (select 2, c.* from claims c where organization_id = %(organization_id)s order by created_at limit 1)
    order by rank limit 1)
select claim.*,
    (select m.claim_id from mine m
        where m.status = case %(role)s when 'provider' then 'draft' else 'under_review' end limit 1) as movable,
    (select array_agg(claim_id) from (select claim_id from mine order by created_at desc limit 20) as recent) as recent,
    (select u.user_id from users u
        where u.organization_id = %(organization_id)s and u.role = 'claims_processor' order by u.created_at limit 1)
        as processor_id,
    (select u.user_id from users u
        where u.organization_id = %(organization_id)s and u.role = 'claims_processor' order by u.created_at desc limit 1)
        as new_processor_id,
    (select u.user_id from users u
        where u.organization_id = %(organization_id)s and u.role = 'patient' limit 1) as other_user_id,
    (select e.event_id from patient_status_events e
        where e.organization_id = %(organization_id)s and e.patient_id = claim.patient_id limit 1)
        as event_id,
    (select j.job_id from job_processing_logs j
        where j.organization_id = %(organization_id)s order by j.status = 'failed' desc limit 1) as job_id,
    (select i.invitation_id from invitations i
        where i.organization_id = %(organization_id)s and i.accepted_at is null limit 1) as invitation_id,
    (select i.token_hash from invitations i
        where i.organization_id = %(organization_id)s and i.expires_at > now() limit 1) as token_hash,
    (select s.token_hash from auth.refresh_tokens s
        where s.organization_id = %(organization_id)s and s.session_id = %(user_id)s limit 1)
        as refresh_hash,
    (select c.changed_at from auth.credentials c
        where c.organization_id = %(organization_id)s and c.email = %(email)s) as changed_at,
    (select json_object_agg(e.event_type, e.event_id) from patient_status_events e
     where e.organization_id = %(organization_id)s and e.patient_id = %(patient_id)s) as events
from claim"""


class Person(NamedTuple):
    """A user of the data set, and rows by name for the parameters: rows that the user sees, where there are any."""

    tenant: str
    work: str
    caller: Caller
    rows: dict[str, Any]


def people(root: psycopg.Connection[Any], tenant: str) -> list[Person]:
    """The users of each role with the most claims to see, and with the fewest."""
    found = []
    with root.cursor(row_factory=dict_row) as cursor:
        for user in cursor.execute(_BUSY_AND_IDLE, [tenant]).fetchall():
            if user["role"] == "admin" and user["best"] > 1:
                continue
            rows = cursor.execute(_ROWS, user).fetchone() or {}
            caller = Caller(user["organization_id"], user["user_id"], user["user_id"], user["role"])
            # Their jobs have still to run.
            root.execute(
                "update job_processing_logs set status = 'pending' where organization_id = %(organization_id)s "
                "and patient_id = %(patient_id)s and %(role)s = 'patient' and status = 'completed'",
                user,
            )
            found.append(Person(tenant, "busy" if user["best"] == 1 else "idle", caller, user | rows))
    return found


def single_filters(rows: dict[str, Any]) -> Iterator[Params]:
    """Every filter of GET /api/claims beside the status, each alone."""
    at, day = rows["created_at"], rows["service_date"]
    yield {}
    yield from ({name: rows[name]} for name in ("patient_id", "provider_id", "diagnosis_code", "claim_number"))
    yield from [{"assigned_to": rows["processor_id"]}, {"mine": True}, {"unassigned": True}]
    yield from [{"service_date_from": day - MONTH, "service_date_to": day}]
    yield from [{"service_date_from": day}, {"service_date_to": day}, {"created_from": at}, {"created_to": at}]
    yield from [{"created_from": at - MONTH, "created_to": at}, {"claim_number": rows["claim_number"][:6]}]
    yield from [{"amount_min": rows["amount_cents"]}, {"amount_max": rows["amount_cents"]}]


def claim_filters(rows: dict[str, Any]) -> Iterator[Params]:
    """Each filter alone and with a status of either end of a claim's life; and the pairs in common use."""
    states: list[Params] = [{}, {"status": "submitted"}, {"status": "paid"}, {"statuses": OPEN}]
    yield from (one | state for one in single_filters(rows) for state in states)
    yield from ({"status": one} for one in ("under_review", "reversed"))
    days = {"service_date_from": rows["service_date"] - MONTH, "service_date_to": rows["service_date"]}
    yield from ({name: rows[name]} | days for name in ("patient_id", "provider_id"))


def claim_lists(rows: dict[str, Any], *, in_every_order: bool) -> Iterator[tuple[statements.Statement, Params]]:
    """The first page for every choice of filters, with its count; for every order one deep page and one by offset."""
    queries = statements.load("claims")
    every = dict.fromkeys(queries.list.options) | {"limit": 20}
    orders = list(queries.list.sorted.values()) if in_every_order else [queries.list]
    for filters in claim_filters(rows):
        yield from ((query, every | filters) for query in orders)
        yield queries.count, every | filters
    for name, query in queries.list.sorted.items():
        yield query, every | {"after": json.dumps([rows[name.lstrip("-")], rows["claim_id"]], default=str)}
        yield query, every | {"offset": 40}


def pages(
    resource: str, rows: dict[str, Any], *filters: Params, **always: Any
) -> Iterator[tuple[statements.Statement, Params]]:
    """A list, newest first: its first page, a deep page, one by offset, and its count."""
    queries = statements.load(resource)
    every = dict.fromkeys(queries.list_newest.options) | {"limit": 20} | always
    after = json.dumps([rows["created_at"], NOWHERE], default=str)
    for one in ({}, *filters):
        yield queries.list_newest, every | one
        yield queries.count, every | one
    yield queries.list_newest, every | {"after": after}
    yield queries.list_newest, every | {"offset": 40}


def audit_log_filters(rows: dict[str, Any]) -> Iterator[Params]:
    at = rows["created_at"]
    times = {"at_from": at - MONTH, "at_to": at}
    one_row = {"entity": "claims", "entity_id": rows["claim_id"]}
    yield from [{"actor_user_id": rows["user_id"]}, {"entity": "claims"}, {"entity": "invitations"}, one_row, times]
    yield from [{"action": one} for one in ("create", "read", "login_failed", "login")]
    yield from [{"at_from": at}, {"at_to": at}, {"entity_id": rows["claim_id"]}]
    yield from [{"action": "update", "entity": "claims"}, {"action": "update", "actor_user_id": rows["processor_id"]}]
    yield {"action": "login", "actor_user_id": rows["processor_id"]}
    yield from [{"actor_user_id": rows["processor_id"]} | times, {"entity": "claims", "action": "create"} | times]


def inserted(row: Params) -> Params:
    """The parameters of a statement that inserts the row."""
    return row | {"columns": tuple(row)}


def everything(person: Person, *, in_every_order: bool) -> Iterator[tuple[statements.Statement, Params]]:
    """Every statement that runs as one of the product's roles, each time with all of its parameters."""
    rows = person.rows
    load = statements.load
    claims, patients, providers, users = load("claims"), load("patients"), load("providers"), load("users")
    yield from claim_lists(rows, in_every_order=in_every_order)
    new = {
        "patient_id": rows["patient_id"], "provider_id": rows["provider_id"], "diagnosis_code": "I10",
        "amount_cents": 100, "service_date": rows["service_date"], "status": "submitted", "notes": None,
    }  # fmt: skip
    yield claims.create, inserted(new) | {"unnumbered": True}
    yield claims.create, inserted(new | {"claim_number": "New"})
    one = {"claim_id": rows["claim_id"]}
    for query in (claims.get, claims.exists):
        yield query, one
    for versions in (None, [1, 2, 3, 4]):
        to_move = {"claim_id": rows["movable"], "versions": versions}
        status = "submitted" if person.caller.role == "provider" else "pending_info"
        yield claims.update_status, to_move | {
            "status": status, "reason": "Why", "denial_reason": None, "denial_code": None, "approved_cents": None,
            "set_notes": None, "notes": None,
        }  # fmt: skip
        yield claims.update_notes, to_move | {"notes": "Noted"}
        yield claims.lock_unchanged, to_move
        yield claims.assign, to_move | {"user_id": rows["processor_id"]}
    yield claims.assign_next, {}
    yield (
        claims.update_status_bulk,
        {"claim_ids": rows["recent"] or [], "status": "pending_info", "reason": "Why", "denial_reason": None},
    )
    days = {"service_date_from": rows["service_date"] - MONTH, "service_date_to": rows["service_date"]}
    for given in (dict.fromkeys(days), days):
        yield claims.stats, given
    lines = [{**new, "service_date": str(rows["service_date"]), "line": n, "claim_number": f"L-{n}"} for n in (1, 2)]
    yield claims.reserve_import, {"path": "/api/claims/import", "key": "key", "body_hash": b"x"}
    yield claims.import_lines, {"lines": json.dumps(lines, default=str), "key": "key"}
    yield claims.record_export, {}

    yield from pages("audit_logs", rows, *audit_log_filters(rows))
    yield load("audit_logs").record_reading, {}
    yield from pages("patients", rows)
    yield from pages("providers", rows)
    yield from pages("users", rows)
    yield from pages("invitations", rows)
    jobs = [{"status": one} for one in ("completed", "failed", "pending")] + [{"job_type": "patient_discharge"}]
    yield from pages("job_processing_logs", rows, *jobs, {"status": "failed", "job_type": "patient_admission"})
    yield from pages("patient_status_events", rows, patient_id=rows["patient_id"])

    patient = {"patient_id": rows["patient_id"]}
    person_ = {
        "member_number": "New",
        "first_name": "New",
        "last_name": "Patient",
        "date_of_birth": "1980-02-03",
        "email": None,
        "phone": None,
    }
    yield patients.create, inserted(person_)
    yield patients.get_by_member_number, {"member_number": "M-10"}
    yield from ((query, patient) for query in (patients.get, patients.exists))
    yield patients.change, {**person_, **patient, "set_email": True, "set_phone": True}
    yield patients.set_care, patient | {"provider_id": rows["provider_id"]}
    yield patients.end_care, patient | {"provider_id": rows["provider_id"]}
    provider = {"provider_id": rows["provider_id"]}
    fields = {"npi": None, "name": "New", "specialty": None, "email": None}
    yield providers.create, inserted(fields | {"npi": "1234567893"})
    yield providers.get, provider
    yield providers.change, provider | fields | {"set_specialty": True, "set_email": None}
    user = {"user_id": rows["other_user_id"]}
    yield users.lock, user
    unchanged = {"role": None, "provider_id": None, "patient_id": None, "set_provider_id": None, "set_patient_id": None}
    yield users.change, {**user, **unchanged, "active": False}
    # Of a user without claims: each claim's triggers under auto_explain would exceed the statement timeout.
    yield users.reassign, {"user_id": rows["new_processor_id"], "to_user_id": None}
    yield load("job_processing_logs").retry, {"job_id": rows["job_id"]}

    invitations, events = load("invitations"), load("patient_status_events")
    invited = {"email": "New@example.org", "role": "admin", "provider_id": None, "patient_id": None}
    yield invitations.create, invited | {"token_hash": b"new", "secret": "secret"}
    yield invitations.withdraw, {"invitation_id": rows["invitation_id"]}
    event = {
        **patient, "provider_id": None, "event_type": "admission", "occurred_at": rows["created_at"], "visit_number": "V-10",
        "facility": None, "notes": None, "idempotency_key": "event-10-1",
    }  # fmt: skip
    yield events.create, event | {"idempotency_key": "new"}
    yield events.get_by_key, event
    yield events.patient_exists, patient

    organization, keys, auth = load("organizations"), load("idempotency_keys"), load("auth")
    yield organization.get, {}
    settings = ("slug", "claim_amount_limit_cents", "auto_approve_limit_cents", "decision_days", "appeal_window_days")
    yield organization.change, dict.fromkeys(settings) | {"name": "New", "timezone": "Europe/Berlin"}
    key = {"path": "/api/claims", "key": "new", "body_hash": b""}
    yield keys.reserve, key
    yield keys.store, key | {"status": 201, "headers": "{}", "body": b"{}"}
    for query in (auth.me, auth.record_login):
        yield query, {}
    own = {"caller": person.caller.user_id}
    yield auth.find_password, own
    yield (
        auth.set_password,
        own | {"new_hash": "new", "changed_at": person.rows["changed_at"], "refresh_hash": b"new", "seconds": 60},
    )
    yield auth.log_out, own | {"refresh_hash": None}
    yield auth.log_out, own | {"refresh_hash": b"none"}
    yield from codes()


def codes() -> Iterator[tuple[statements.Statement, Params]]:
    queries = statements.load("diagnosis_codes")
    for search in (None, "E11", "fem fract", "unspecified"):
        yield queries.list, {"search": search, "limit": 20, "after": None, "offset": None}
        yield queries.count, {"search": search}
    yield queries.list, {"search": None, "limit": 20, "after": '["E11.9", "-infinity"]', "offset": None}


def anonymous_calls(person: Person) -> Iterator[tuple[statements.Statement, Params]]:
    """Every statement that runs before there is a caller."""
    auth, limits, audit_logs = statements.load("auth"), statements.load("rate_limits"), statements.load("audit_logs")
    tenant, user_id = person.caller.organization_id, person.caller.user_id
    email = person.rows["email"]
    for slug in (None, person.tenant):
        yield auth.find_logins, {"email": email, "slug": slug}
        yield auth.record_failed_login, {"email": email, "slug": slug, "request_id": "plans", "address": ""}
    yield auth.find_password_hash, {"email": email}
    yield auth.register, {"organization": "New", "email": "new@example.org", "name": "New", "password_hash": "new"}
    invitation = {"tenant": tenant, "token_hash": person.rows["token_hash"]}
    yield auth.find_invitation, invitation
    yield auth.accept_invitation, invitation | {"name": "New", "password_hash": "new"}
    session = {"tenant": tenant, "user_id": user_id, "session_id": uuid4(), "refresh_hash": b"new", "seconds": 60}
    for changed_at, new_hash in ((None, None), (person.rows["changed_at"], "new")):
        yield auth.open_session, session | {"changed_at": changed_at, "new_hash": new_hash}
    for refresh_hash in (person.rows["refresh_hash"], b"none"):
        yield auth.refresh, {"old_hash": refresh_hash, "successors": bytes(32), "seconds": 60}
    denied = {"entity": "claims", "entity_id": person.rows["claim_id"], "outcome": "denied", "asked": None}
    yield (
        audit_logs.record_denial,
        denied | {"tenant": tenant, "user_id": user_id, "request_id": "plans", "address": ""},
    )
    yield limits.consume, {"subject": "login as", "want": 1, "limit": 10, "seconds": 60}
    windows = {"account": "login as", "address": "login from", "account_window": 1, "address_window": 1}
    yield limits.refund, windows
    yield statements.load("health").queue, {}
    yield statements.load("health").probe, {"kid": "test"}


def of_jobs(person: Person) -> Iterator[tuple[statements.Statement, Params]]:
    """Every statement of the jobs that runs within an event of this patient."""
    jobs = statements.load("queue")
    for event_id in person.rows["events"].values():
        attempt = {"event_id": UUID(event_id)}
        for more in (0, 50):
            yield jobs.process, attempt | {"more": more}
        yield jobs.record_failure, attempt | {"error": "TimeoutError", "permanent": False}


def of_workers() -> Iterator[tuple[statements.Statement, Params]]:
    """Statements that a worker runs without a context."""
    jobs = statements.load("queue")
    yield jobs.rescue, {"stalled_after": timedelta(seconds=30), "overdue_after": timedelta(minutes=10)}
    yield jobs.delete_old, {"completed_hours": 24, "failed_hours": 720, "at_most": 1000}
    yield jobs.apply_totals, {}
    yield jobs.flush_denials, {"at_most": 100}
    yield jobs.audit_heads, {}
    yield jobs.set_statement_timeout, {"milliseconds": "0"}
