"""Audited actions that change no row: reads of one patient or claim, denials, logouts, password changes."""

import asyncio
import logging
from datetime import datetime
from uuid import uuid4

import psycopg

from app.database import statements
from tests.http.test_end_to_end import worker  # noqa: F401
from tests.resources.test_audit_logs import audit_log
from tests.support.cast import PASSWORD, sign_call
from tests.support.clients import until


async def test_reading_one_patient_or_claim_is_in_the_audit_log(as_user, cast):
    readings = {
        "claims": ("pia", f"/api/claims/{cast.anas_claim}", cast.anas_claim),
        "patients": ("ana", f"/api/patients/{cast.tom_patient}", cast.tom_patient),
    }
    for entity, (who, path, entity_id) in readings.items():
        assert await audit_log(as_user("alma"), action="read", entity=entity) == []  # control
        headers = {"X-Request-Id": f"read-{entity}"}
        assert (await as_user(who).get(path, headers=headers)).status_code == 200
        (entry,) = await audit_log(as_user("alma"), action="read", entity=entity)
        assert (entry.actor_user_id, entry.entity_id, entry.patient_id) == (cast.ids[who], entity_id, cast.tom_patient)
        assert (entry.request_id, entry.outcome, entry.before, entry.after) == (
            headers["X-Request-Id"], "success", None, None,
        )  # fmt: skip
    # The patient sees the readers.
    assert {one.entity for one in await audit_log(as_user("tom"), action="read")} >= {"claims", "patients"}


async def test_a_list_and_a_change_are_not_recorded_as_reads(as_user, cast):
    alma = as_user("alma")
    await alma.get("/api/claims")
    await alma.get("/api/patients")
    await alma.patch(f"/api/patients/{cast.tom_patient}", {"firstName": "Tim"})
    assert [one.entity for one in await audit_log(alma, action="read")] == ["audit_logs"]


async def test_denied_requests_are_in_the_audit_log(as_user, cast, other):
    asked = [
        ("pia", "GET", f"/api/claims/{cast.bens_claim}", "claims", cast.bens_claim, 404),
        ("ana", "GET", f"/api/patients/{other.tom_patient}", "patients", other.tom_patient, 404),
        ("tom", "PATCH", f"/api/users/{cast.pia}", "users", cast.pia, 403),
        ("ana", "GET", "/api/audit-logs", "audit_logs", None, 403),
    ]
    for who, method, path, entity, entity_id, status in asked:
        answer = await as_user(who)(method, path, json={"active": False} if method == "PATCH" else None)
        assert answer.status_code == status, (path, answer.text)
        entry = (await audit_log(as_user("alma"), action="denied"))[0]
        assert (entry.actor_user_id, entry.entity, entry.entity_id) == (cast.ids[who], entity, entity_id)
        assert entry.outcome == {403: "forbidden", 404: "not found"}[status]
        assert entry.after == {"method": method, "path": path.replace(str(entity_id), "{id}")}
        assert entry.request_id == answer.headers["X-Request-Id"]
        assert (entry.actor_role, entry.patient_id) == (
            {"pia": "claims_processor", "ana": "provider", "tom": "patient"}[who], None,
        )  # fmt: skip
    assert await audit_log(as_user("alma", "south"), action="denied") == []


async def test_requests_of_ended_sessions_and_inactive_users_are_in_the_audit_log(as_user, cast, as_root):
    await as_user("alma").patch(f"/api/users/{cast.paul}", {"active": False})
    assert (await as_user("ana").post("/api/auth/logout", {})).status_code == 204
    for who in ("paul", "ana"):
        assert (await as_user(who).get("/api/claims")).status_code == 401
    entries = [one for one in await audit_log(as_user("alma"), action="denied") if one.outcome == "unauthorized"]
    assert [(one.actor_user_id, one.after["path"]) for one in entries] == [
        (cast.ana, "/api/claims"), (cast.paul, "/api/claims"),
    ]  # fmt: skip
    as_root.execute("update organizations set suspended_at = now() where slug = 'north'")
    assert (await as_user("alma").get("/api/claims")).status_code == 401
    assert as_root.execute("select count(*) from audit_logs where outcome = 'unauthorized'").fetchone() == (3,)


async def test_requests_without_a_user_or_a_row_are_no_denials(client, as_user, as_root, cast):
    assert (await client.get("/api/claims")).status_code == 401
    assert (await client.get("/api/claims", headers={"Authorization": "Bearer x"})).status_code == 401
    assert (await as_user("alma").get("/api/nothing")).status_code == 404
    assert (await as_user("alma").get(f"/api/claims/{cast.anas_claim}")).status_code == 200
    assert as_root.execute("select count(*) from audit_logs where action = 'denied'").fetchone() == (0,)


async def test_a_denial_that_cannot_be_recorded_is_still_denied(as_user, as_root, caplog):
    as_root.execute("revoke execute on function auth.record_denial from claims_api")
    with caplog.at_level(logging.ERROR, "claims.api"):
        answer = await as_user("pia").get(f"/api/claims/{uuid4()}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")
    assert f"request {answer.headers['X-Request-Id']}: its denial is not in the audit log" in caplog.text


WINDOWS = "select recorded, more from auth.denial_counters order by recorded desc"
A_MINUTE_LATER = "update auth.denial_counters set started_at = started_at - interval '1 minute'"
DENIALS = "select count(*) from audit_logs where action = 'denied'"


async def deny(as_user, who: str, times: int) -> list[int]:
    async def one() -> int:
        return (await as_user(who).get(f"/api/claims/{uuid4()}")).status_code

    return await asyncio.gather(*(one() for _ in range(times)))


async def test_beyond_sixty_a_minute_denials_are_counted(as_user, as_root, cast):
    assert await deny(as_user, "pia", 75) == [404] * 75
    assert as_root.execute(DENIALS).fetchone() == (60,)
    assert as_root.execute(WINDOWS).fetchall() == [(60, 15)]
    assert await deny(as_user, "paul", 1) == [404]  # another user has its own count
    assert as_root.execute(DENIALS).fetchone() == (61,)
    as_root.execute(A_MINUTE_LATER)
    assert await deny(as_user, "pia", 2) == [404] * 2
    assert as_root.execute(DENIALS).fetchone() == (64,)
    (entry,) = [one for one in await audit_log(as_user("alma"), action="denied") if one.outcome == "more denials"]
    assert (entry.actor_user_id, entry.actor_role, entry.entity, entry.entity_id) == (
        cast.pia, "claims_processor", "users", cast.pia,
    )  # fmt: skip
    began, ended = (datetime.fromisoformat(entry.after[name]) for name in ("from", "to"))
    assert (entry.after["count"], began < ended <= entry.at) == (15, True)
    assert as_root.execute(WINDOWS).fetchall() == [(2, 0), (1, 0)]


async def test_the_worker_closes_a_minute_without_a_later_denial(settings, as_user, as_root, cast, worker):  # noqa: F811
    await deny(as_user, "pia", 62)
    await deny(as_user, "paul", 1)
    await deny(as_user, "tom", 61)
    as_root.execute(A_MINUTE_LATER + " where user_id <> %s", [cast.tom])

    async def closed():
        return as_root.execute(WINDOWS).fetchall() == [(60, 1)]  # tom's minute has not ended

    await until(closed)
    entries = await audit_log(as_user("alma"), action="denied", limit=100)
    assert [(one.actor_user_id, one.after["count"]) for one in entries if one.outcome == "more denials"] == [
        (cast.pia, 2)
    ]
    assert as_root.execute(DENIALS).fetchone() == (60 + 1 + 60 + 1,)


async def test_denials_of_an_unknown_user_are_not_counted(settings, as_root, cast, other):
    denial = statements.load("audit_logs").record_denial
    about = {"request_id": "", "address": "", "entity": "claims", "entity_id": None, "outcome": "x", "asked": None}
    with psycopg.connect(settings.api_database_url, autocommit=True) as api:
        for organization, user in [(cast.organization, other.pia), (cast.organization, uuid4()), (uuid4(), cast.pia)]:
            given = about | {"tenant": organization, "user_id": user}
            api.execute(denial.text(given), sign_call(denial, **given))
        assert as_root.execute(WINDOWS).fetchall() == []
        given = about | {"tenant": cast.organization, "user_id": cast.pia}
        api.execute(denial.text(given), sign_call(denial, **given))
        assert as_root.execute(WINDOWS).fetchall() == [(1, 0)]  # control


async def test_two_workers_write_one_entry(settings, as_user, as_root):
    await deny(as_user, "pia", 61)
    as_root.execute(A_MINUTE_LATER)
    with psycopg.connect(settings.worker_database_url) as first:
        assert first.execute("select app.flush_denials(9)").fetchone() == (1,)
        with psycopg.connect(settings.worker_database_url, autocommit=True) as second:
            second.execute("set lock_timeout = '1ms'")
            assert second.execute("select app.flush_denials(9)").fetchone() == (0,)
    assert as_root.execute(DENIALS + " and outcome = 'more denials'").fetchone() == (1,)


async def test_counted_denials_do_not_wait_for_the_disk(as_user, as_root, settings, cast):
    denial = statements.load("audit_logs").record_denial
    given = {"tenant": cast.organization, "user_id": cast.pia, "request_id": "", "address": "", "entity": "claims",
             "entity_id": None, "outcome": "x", "asked": None}  # fmt: skip
    await deny(as_user, "pia", 59)
    with psycopg.connect(settings.api_database_url, autocommit=True) as api:
        waits = []
        for _ in range(3):
            with api.transaction():
                api.execute("set local synchronous_commit = on")  # the server of the tests never waits for the disk
                api.execute(denial.text(given), sign_call(denial, **given))
                waits += api.execute("show synchronous_commit").fetchone()
    assert waits == ["on", "off", "off"]


async def test_a_new_password_and_a_logout_are_in_the_audit_log(as_user, cast):
    tom = as_user("tom")
    changed = {"currentPassword": PASSWORD, "newPassword": "another long password"}
    assert (await tom.post("/api/auth/password", changed)).status_code == 204
    assert (await tom.post("/api/auth/logout", {})).status_code == 204
    entries = await audit_log(as_user("alma"), action="execute", entity="users")
    assert [(one.actor_user_id, one.entity_id, one.outcome) for one in entries] == [
        (cast.tom, cast.tom, "logged out"), (cast.tom, cast.tom, "changed its password"),
    ]  # fmt: skip


def test_recorded_reads_do_not_wait_for_the_disk_and_changes_do(as_role):
    alma = as_role("alma")
    alma.execute("set local synchronous_commit = on")  # the server of the tests never waits for the disk
    alma.execute("select app.record_access('export', 'claims')")
    assert alma.execute("show synchronous_commit").fetchone() == ("on",)
    alma.execute("select app.record_access('read', 'audit_logs')")
    assert alma.execute("show synchronous_commit").fetchone() == ("off",)
