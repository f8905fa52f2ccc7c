"""Comparison of the clients' histories with the database.

`compare` reads everything once and runs each check. A check is a plain function that yields its findings. An effect: one event
updates one claim, once.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import namedtuple_row

from tests.load.clients import History, Posted


class Found(NamedTuple):
    """A finding. kind: lost, doubled, or wrong in any other way."""

    kind: str
    what: str


READ = {
    "events": "select organization_id::text as organization, event_id::text as id, idempotency_key as key, "
    "patient_id::text as patient, event_type as type, visit_number as visit from app.patient_status_events",
    "claims": "select organization_id::text as organization, claim_id::text as id, notes as key, "
    "patient_id::text as patient, status, version, amount_cents from app.claims",
    "jobs": "select organization_id::text as organization, event_id::text as event, patient_id::text as patient, "
    "status, error, result, finished_at from app.job_processing_logs",
    "moves": "select organization_id::text as organization, claim_id::text as claim, version, from_status, to_status, "
    "by_role, event_id::text as event from app.claim_status_history order by claim_id, version",
    "audited": "select entity, entity_id::text as id, action, after ->> 'version' as version, after ->> 'status' as status "
    "from app.audit_logs where entity in ('claims', 'patient_status_events') and action in ('create', 'update', 'delete')",
    "legal": "select from_status, to_status, role from app.claim_transitions",
    "queue": "select args ->> 'event_id' as event, status::text as status "
    "from procrastinate.procrastinate_jobs where queue_name = 'patient_status'",
}


class Stored:
    """The database's side: the rows of READ, and the moves by claim and by event."""

    def __init__(self, rows: dict[str, list[Any]]) -> None:
        self.events, self.claims, self.jobs = rows["events"], rows["claims"], rows["jobs"]
        self.moves, self.audited, self.queue = rows["moves"], rows["audited"], rows["queue"]
        self.legal = {(one.from_status, one.to_status, one.role) for one in rows["legal"]}
        self.event = {one.id: one for one in self.events}
        self.claim = {one.id: one for one in self.claims}
        self.job = {one.event: one for one in self.jobs}
        self.of_claim, self.of_event = defaultdict(list), defaultdict(list)
        for move in self.moves:
            self.of_claim[move.claim].append(move)
            if move.event:
                self.of_event[move.event].append(move)


def read(connection: psycopg.Connection[Any]) -> Stored:
    """Reads through an administrator's connection, uncommitted changes of its own included."""
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        return Stored({name: cursor.execute(text).fetchall() for name, text in READ.items()})


def compare(connection: psycopg.Connection[Any], history: History) -> list[Found]:
    """All findings. None if every acknowledged request had its effect once, and there are no other effects."""
    stored = read(connection)
    found = [one for check in CHECKS for one in check(history, stored)]
    problems = connection.execute("select object, problem from app.verify_audit_logs()").fetchall()
    return found + [Found("wrong", f"the audit log: {object_}: {problem}") for object_, problem in problems]


def acknowledged_is_stored(history: History, stored: Stored) -> Iterator[Found]:
    """Each acknowledged request is stored under its one id, and nothing else is stored."""
    for kind, rows in (("event", stored.events), ("claim", stored.claims)):
        by_key = defaultdict(list)
        for row in rows:
            by_key[row.organization, row.key].append(row)
        posted = {(one.organization, one.key): one for one in history.posted if one.kind == kind}
        for place, one in posted.items():
            ids = {row.id for row in by_key[place]}
            if not one.ids:
                yield Found("wrong", f"{kind} {one.key} was never acknowledged: {one.answers[-1:]}")
            if len(ids) > 1 or len(one.ids) > 1:
                yield Found(
                    "doubled", f"{kind} {one.key} is stored as {sorted(ids)}, acknowledged as {sorted(one.ids)}"
                )
            elif not one.ids <= ids:
                yield Found("lost", f"{kind} {one.key} was acknowledged and is not stored")
        for place, same in by_key.items():
            for row in same:
                if place not in posted or _differs(posted[place], row):
                    yield Found("wrong", f"{kind} {row.id} was not posted by any client")


def _differs(one: Posted, row: Any) -> bool:
    body = one.body
    if one.kind == "claim":
        return bool((body["patientId"], round(body["amount"] * 100)) != (row.patient, row.amount_cents))
    return bool((body["patientId"], body["eventType"], body["visitNumber"]) != (row.patient, row.type, row.visit))


def jobs_are_done(history: History, stored: Stored) -> Iterator[Found]:
    """Each event has one job, which has succeeded with the result that a client read."""
    logs, queued = Counter(one.event for one in stored.jobs), Counter(one.event for one in stored.queue)
    for event in stored.events:
        for where, count in (("log", logs[event.id]), ("queue", queued[event.id])):
            if count != 1:
                yield Found("doubled" if count else "lost", f"event {event.key} has {count} jobs in the {where}")
    for job in stored.jobs:
        if job.event not in stored.event:
            yield Found("lost", f"the job of event {job.event} has no event")
        if job.status != "completed":
            yield Found("lost", f"the job of event {job.event} is {job.status} ({job.error})")
        elif refused := job.result["failed"]:
            yield Found("wrong", f"event {job.event} failed to move {refused}")
    for event, result in history.results.items():
        if event in stored.job and stored.job[event].result != result:
            yield Found("wrong", f"event {event} had another result when a client read it")
    for status, count in Counter(one.status for one in stored.queue if one.status != "succeeded").items():
        yield Found("lost" if status in ("todo", "doing") else "wrong", f"{count} jobs in the queue are {status}")


def effects_happened_once(history: History, stored: Stored) -> Iterator[Found]:
    """The history has the moves of a job's result, each claim once, and only claims of the event's patient."""
    for job in stored.jobs:
        reported = Counter(job.result["updated"] if job.result else [])
        shown = Counter(move.claim for move in stored.of_event[job.event])
        for claim in reported - shown:
            yield Found("lost", f"event {job.event} did not move claim {claim}, and its job reports that")
        for claim in shown - reported:
            kind = "doubled" if shown[claim] > 1 else "wrong"
            yield Found(
                kind,
                f"event {job.event} moved claim {claim} {shown[claim]} times, and its job reports {reported[claim]}",
            )
    for event, moves in stored.of_event.items():
        if event not in stored.event:
            yield Found("lost", f"event {event} moved claims and is not stored")
            continue
        of = (stored.event[event].organization, stored.event[event].patient)
        for move in moves:
            claim = stored.claim.get(move.claim)
            if not claim:
                yield Found("lost", f"claim {move.claim} was moved by event {event} and is not stored")
            elif (claim.organization, claim.patient) != of:
                yield Found("wrong", f"event {event} moved claim {move.claim} of another patient")


def chains_are_whole(history: History, stored: Stored) -> Iterator[Found]:
    """A claim's moves are consecutive, each allowed, and end at the claim's status."""
    for claim in stored.claims:
        chain = stored.of_claim[claim.id]
        versions = [move.version for move in chain]
        if missing := sorted(set(range(1, claim.version + 1)) - set(versions)):
            yield Found("lost", f"claim {claim.id} has no move {missing}")
        if extra := sorted(version for version in versions if version > claim.version):
            yield Found("doubled", f"claim {claim.id} has moves {extra}, and had {claim.version}")
        if chain and chain[-1].to_status != claim.status:
            yield Found("lost", f"claim {claim.id} is {claim.status}, and was moved to {chain[-1].to_status} last")
        before = None
        for move in chain:
            legal = (move.from_status or "", move.to_status, move.by_role) in stored.legal
            if move.from_status != before or not legal:
                yield Found(
                    "wrong", f"claim {claim.id} went from {move.from_status} to {move.to_status} after {before}"
                )
            before = move.to_status


def changes_are_audited(history: History, stored: Stored) -> Iterator[Found]:
    """The audit log has one entry for each move of a claim and for each event, and no others."""
    happened = Counter(("claims", one.claim, str(one.version), one.to_status) for one in stored.moves)
    happened += Counter(("patient_status_events", one.id, None, None) for one in stored.events)
    audited = Counter((one.entity, one.id, one.version, one.status) for one in stored.audited)
    for what in happened - audited:
        yield Found("lost", f"the audit log lacks {what}")
    for what in audited - happened:
        yield Found(
            "doubled", f"the audit log has {what} {audited[what]} times, and it happened {happened[what]} times"
        )


def order_is_kept(history: History, stored: Stored) -> Iterator[Found]:
    """An event acknowledged before another of the same patient was sent has its effect before the other."""
    at = {event.key: stored.job[event.id].finished_at for event in stored.events if event.id in stored.job}
    of_patient = defaultdict(list)
    for one in history.posted:
        if one.kind == "event" and at.get(one.key):
            of_patient[one.patient].append((one.sent_at, one.acknowledged_at, at[one.key], one.key))
    for posted in of_patient.values():
        for sent_at, _, done_at, key in posted:
            for _, acknowledged_at, done_before, before in posted:
                if acknowledged_at < sent_at and done_before > done_at:
                    yield Found("wrong", f"event {key} had its effect before {before}")
    for claim, moves in stored.of_claim.items():
        times = [stored.job[one.event].finished_at for one in moves if one.event in stored.job]
        if None not in times and times != sorted(times):
            yield Found("wrong", f"claim {claim} was moved in another order than the jobs ended in")


def admissions_took_effect(history: History, stored: Stored) -> Iterator[Found]:
    """No claim is still submitted that existed before an admission which was not cancelled, whatever the job's result."""
    posted = {(one.kind, one.key): one for one in history.posted}
    cancelled = {(one.patient, one.visit) for one in stored.events if one.type == "admission_cancelled"}
    admissions = defaultdict(list)
    for event in stored.events:
        admission, job = posted.get(("event", event.key)), stored.job.get(event.id)
        is_valid = event.type == "admission" and (event.patient, event.visit) not in cancelled
        if is_valid and admission and job and job.finished_at:
            admissions[event.patient].append((admission, job))
    for claim in stored.claims:
        one, chain = posted.get(("claim", claim.key)), stored.of_claim[claim.id]
        if claim.status != "submitted" or not one:
            continue
        back = next((stored.job[move.event] for move in chain[-1:] if move.event in stored.job), None)
        for admission, job in admissions[claim.patient]:
            if back.finished_at < job.finished_at if back else one.acknowledged_at < admission.sent_at:
                yield Found("lost", f"claim {claim.id} is submitted after admission {admission.key}")
                break


CHECKS: list[Callable[[History, Stored], Iterator[Found]]] = [
    acknowledged_is_stored, jobs_are_done, effects_happened_once, chains_are_whole, changes_are_audited, order_is_kept,
    admissions_took_effect,
]  # fmt: skip
