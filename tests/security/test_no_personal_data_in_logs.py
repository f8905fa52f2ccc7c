"""Personal data: no name or text of a record is in a log, a job, a queue event or an error, whatever happens to it."""

import json
import os
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path

import httpx
import pytest

from app.security.tokens import make_token
from tests.operations.test_process_failures import free_port
from tests.security.attacks.cases import npi
from tests.support.cast import KEYS, caller
from tests.support.clients import As, until
from tests.support.workers import FAULTS, Workers, ended, listening

MARK = "canary"
_numbers = count(1)

SPOIL = """
set search_path = public;
create function spoil() returns trigger language plpgsql as $$
begin
    raise exception using errcode = 'XX000', message = new.first_name || new.last_name, detail = new.email, hint = new.phone;
end $$;
create function spoil_event() returns trigger language plpgsql security definer set search_path = app as $$
declare
    said text := (select notes from patient_status_events e where e.event_id = new.event_id);
begin
    if said like '%transient%' then
        raise exception using errcode = '40001', message = said, detail = said;
    elsif said like '%permanent%' then
        raise exception using errcode = 'P0001', message = said, detail = said, hint = said;
    end if;
    return new;
end $$;
create trigger zz_spoil before insert on app.patients for each row when (new.phone like '%broken%') execute function spoil();
create trigger zz_spoil before update on app.job_processing_logs for each row when (new.status = 'completed')
    execute function spoil_event();
update schema_admin.state set catalog = schema_admin.fingerprint();
set search_path = app, procrastinate
"""


def word(kind: str = "") -> str:
    """A string that occurs nowhere else."""
    return f"{MARK}{next(_numbers)}{kind}"


def mail() -> str:
    return f"{word()}@{MARK}.test"


class Recorder:
    """A caller that records the responses of the API."""

    def __init__(self, client: httpx.AsyncClient, token: str) -> None:
        self._as = As(client, token)
        self.refused: list[tuple[str, str, str]] = []
        self.taken: list[str] = []

    async def __call__(self, method: str, path: str, status: int, **options):
        answer = await self._as(method, path, **options)
        assert answer.status_code == status, (method, path, answer.text)
        if answer.is_success:
            self.taken.append(answer.text)
            return answer.json()["data"] if answer.headers["Content-Type"] == "application/json" else answer.text
        self.refused.append((method, path.partition("?")[0], answer.text))
        return None


@pytest.fixture
async def api(settings):
    """A process that logs everything: a client of it, and a function that reads the log."""
    port, output = free_port(), tempfile.NamedTemporaryFile()  # noqa: SIM115
    keys = f"test:{KEYS['test'].decode()}"
    environ = os.environ | {"API_DATABASE_URL": settings.api_database_url, "TOKEN_KEYS": keys, "PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.debug_entry", "api"], env=environ, stdout=output, stderr=subprocess.STDOUT
    )

    def log() -> str:
        return Path(output.name).read_text()

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:

        async def answers():
            assert process.poll() is None, log()
            try:
                return (await client.get("/health/ready")).status_code == 200
            except httpx.TransportError:
                return False

        await until(answers)
        yield client, log
    process.terminate()
    process.wait(20)
    output.close()


async def play(call: Recorder, other: Recorder, client, cast) -> list[str]:
    """Every request with texts, valid, invalid and repeated. Returns the reported events."""
    register = {"organizationName": word(), "email": mail(), "name": word(), "password": word("a long password")}
    await call("POST", "/api/auth/register", 201, json=register)
    await call("POST", "/api/auth/login", 401, json={"email": register["email"], "password": word("wrong")})
    await call("POST", "/api/auth/login", 400, json={"email": word(), "password": [word()]})
    provider = {"npi": npi(), "name": word(), "specialty": word(), "email": mail()}
    provider_id = (await call("POST", "/api/providers", 201, json=provider))["id"]
    await call("POST", "/api/providers", 409, json=provider)
    patient = {
        "memberNumber": word(),
        "firstName": word(),
        "lastName": word(),
        "dateOfBirth": "1980-01-01",
        "email": mail(),
        "phone": word(),
    }
    patient_id = (await call("POST", "/api/patients", 201, json=patient))["id"]
    await call("POST", "/api/patients", 409, json=patient)
    await call("POST", "/api/patients", 500, json=patient | {"memberNumber": word(), "phone": word("broken")})
    await call(
        "POST",
        "/api/patients",
        400,
        json=patient | {"dateOfBirth": word(), "email": word(), "memberNumber": word("x" * 80)},
    )
    await call("PATCH", f"/api/patients/{patient_id}", 200, json={"lastName": word(), "phone": word()})
    await call("POST", "/api/invitations", 201, json={"email": mail(), "role": "admin"})
    await call("POST", "/api/invitations", 400, json={"email": mail(), "role": word()})
    await call("GET", f"/api/patients?search={word()}", 400)
    await call("GET", f"/api/claims?cursor={word()}&status={word()}", 400)
    claim = {
        "patientId": patient_id,
        "providerId": provider_id,
        "diagnosisCode": "I10",
        "amount": 10,
        "serviceDate": "2026-11-10",
    }
    claims = []
    for _ in range(3):
        said = {"notes": word(), "claimNumber": word()}
        made = await call("POST", "/api/claims", 201, json=claim | said, headers={"Idempotency-Key": word()})
        claims.append(made["id"])
    number = {"claimNumber": word(), "notes": word()}
    await call("POST", "/api/claims", 201, json=claim | number)
    await call("POST", "/api/claims", 409, json=claim | number)
    await call(
        "POST",
        "/api/claims",
        400,
        json=claim | {"diagnosisCode": word(), "amount": word(), "notes": [word()], "serviceDate": word()},
    )
    await call(
        "POST",
        "/api/claims",
        400,
        content=f'{{"notes": "{word()}'.encode(),
        headers={"Content-Type": "application/json"},
    )
    lines = [
        claim | {"claimNumber": word(), "notes": word()},
        claim | number | {"notes": word()},
        claim | {"patientId": word()},
        word(),
    ]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    results = await call(
        "POST", "/api/claims/import", 200, content=body, headers={"Content-Type": "application/x-ndjson"}
    )
    call.refused.append(("POST", "/api/claims/import", results))
    await call("GET", "/api/claims/export", 200, headers={"Accept": "text/csv"})
    move = {"claimIds": claims[:2], "status": "rejected", "denialReason": word()}
    bulk = await call("POST", "/api/claims/bulk-status-update", 200, json=move | {"reason": word()})
    call.refused.append(("POST", "/api/claims/bulk-status-update", json.dumps(bulk)))
    await call("PATCH", f"/api/claims/{claims[0]}", 409, json={"status": "submitted", "reason": word()})
    await call("PATCH", f"/api/claims/{claims[0]}", 409, json={"notes": word()})
    await other("PATCH", f"/api/claims/{claims[0]}", 404, json={"notes": word()})
    await other("POST", "/api/providers", 403, json=provider)
    event = {"patientId": patient_id, "occurredAt": "2026-11-10T10:00:00Z", "facility": word(), "visitNumber": word()}
    known = event | {"eventType": "admission", "idempotencyKey": word(), "notes": word()}
    events = [(await call("POST", "/api/patient-status", 202, json=known))["id"]]
    await call("POST", "/api/patient-status", 200, json=known)
    await call("POST", "/api/patient-status", 422, json=known | {"notes": word()})
    await call(
        "POST",
        "/api/patient-status",
        400,
        json=known | {"eventType": word(), "occurredAt": word(), "providerId": word()},
    )
    for kind, notes in [
        ("discharge", ""),
        ("discharge_cancelled", ""),
        ("admission", "permanent"),
        ("admission", "transient"),
    ]:
        body = event | {"eventType": kind, "notes": word(notes), "occurredAt": "2026-11-11T10:00:00Z"}
        events.append((await call("POST", "/api/patient-status", 202, json=body))["id"])
    return events


async def test_no_word_of_a_record_is_in_a_log_a_job_or_an_error(api, settings, as_root, casts):
    client, log = api
    as_root.execute(FAULTS)
    alma, ben = (Recorder(client, make_token(caller(casts["north"], name), KEYS)) for name in ("alma", "ben"))
    with Workers(settings) as workers:
        worker = workers.start("tests.support.debug_entry")
        await until(listening(as_root))
        as_root.execute(SPOIL)
        events = await play(alma, ben, client, casts["north"])
        rows = await until(ended(as_root, events))
        assert sorted(row[1] for row in rows) == ["completed", "completed", "completed", "failed", "failed"]  # control
        said = workers.output(worker)
    stored = as_root.execute(
        "select coalesce(error, '') || coalesce(result::text, '') from job_processing_logs "
        "union all select j.*::text from procrastinate_jobs j union all select e.*::text from procrastinate_events e"
    ).fetchall()
    marked = as_root.execute(
        f"select (select count(*) from patients where first_name ~ '{MARK}'), (select count(*) from claims where notes ~ '{MARK}'), "
        f"(select count(*) from patient_status_events where facility ~ '{MARK}')"
    ).fetchone()
    assert marked == (1, 5, 5)  # controls: the words are stored, and the responses that should contain them do
    assert MARK in "".join(alma.taken)
    assert "DEBUG:procrastinate" in said
    assert "DEBUG:psycopg" in said
    assert "DEBUG:psycopg" in log()
    assert "InternalError_ XX000" in log()
    assert [line for line in said.splitlines() if MARK in line] == []
    assert [line for line in log().splitlines() if MARK in line] == []
    assert [text for (text,) in stored if MARK in text] == []
    assert [one for one in alma.refused + ben.refused if MARK in one[2]] == []
