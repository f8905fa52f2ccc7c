"""One message for one cause: two errors that a client would handle differently have different messages."""

import asyncio
import json

import msgspec
import psycopg
import pytest

from app.errors import ApiError, Conflict, Forbidden, Overloaded, RateLimited, Unauthorized, Unavailable, from_database
from app.http import concurrency, spool
from app.http.concurrency import FairSemaphore
from app.http.idempotency import exclusive
from app.http.openapi.document import document
from app.main import create_app
from tests.http.test_import_export import NDJSON
from tests.http.test_rate_limits import bearer
from tests.resources.test_auth import instance
from tests.security.attacks.cases import patient
from tests.support.databases import settings_for

DATABASE = "The database can't be reached right now."


def families(base=ApiError):
    for error in base.__subclasses__():
        yield error
        yield from families(error)


def text(answer):
    return answer.json()["error"]["message"]


def test_every_error_has_a_message_of_its_own():
    texts = [error.__doc__ for error in families()]
    assert len(texts) == len(set(texts)) > 25
    for error in families():
        (base,) = [one for one in families() if one.__base__ is ApiError and issubclass(error, one)]
        assert (error.status, error.code) == (base.status, base.code)


def test_the_document_lists_every_message():
    described = document(create_app(settings_for("postgresql:///", "none")))["components"]["responses"]
    for error in families():
        base = next(one for one in error.__mro__ if one.__base__ is ApiError)
        if base.__name__ in described:
            assert error.__doc__ in described[base.__name__]["description"], error


@pytest.mark.parametrize(("state", "words"), [
    ("57014", "took too long"), ("55P03", "same record"), ("40P01", "same record"), ("40001", "same record"),
    ("53300", "no more connections"),
    ("53100", "no space left"), ("28000", "operator"), ("CLOCK", "operator"), ("57P01", "can't be reached"), ("08006", "can't be reached"),
])  # fmt: skip
def test_a_503_of_the_database_names_its_cause(state, words):
    error = psycopg.errors.lookup(state)() if state != "CLOCK" else psycopg.OperationalError()
    if error.sqlstate is None:
        error.sqlstate = state
    told = from_database(error)
    assert (type(told).status, type(told).code) == (503, "UNAVAILABLE")
    assert words in str(told)
    assert (str(told) == DATABASE) == (words == "can't be reached")


async def test_a_statement_that_takes_too_long_is_named(as_user, as_root, settings, cast):
    with psycopg.connect(settings.database_url) as blocking:
        blocking.execute("select from app.patients where patient_id = %s for update", [cast.tom_patient])
        answer = await as_user("alma").patch(f"/api/patients/{cast.tom_patient}", {"firstName": "Tom"})
        assert answer.status_code == 503
        assert "same record" in text(answer)
    assert (
        await as_user("alma").patch(f"/api/patients/{cast.tom_patient}", {"firstName": "Tom"})
    ).status_code == 200  # control


async def fill(semaphore, *keys):
    """Acquires the semaphore for each key, waiting in tasks; returns the error of the last one."""
    for key in keys[:-1]:
        if not semaphore.try_acquire(key):
            waiting = asyncio.create_task(semaphore.acquire(key))
            await asyncio.sleep(0)
            TASKS.append(waiting)
    with pytest.raises(ApiError) as raised:
        await semaphore.acquire(keys[-1])
    for task in TASKS:
        task.cancel()
    TASKS.clear()
    return raised.value


TASKS: list = []


@pytest.mark.parametrize(("name", "keys", "kind", "words"), [
    ("_hashing", [("a", "")] * 3, RateLimited, "logins"), ("_hashing", [("a", ""), ("b", ""), ("c", "")], Overloaded, "logins"),
    ("_users", [("o", n // 20) for n in range(17)], RateLimited, "of your requests"),
    ("_users", [("o", n // 16) for n in range(65)], Overloaded, "organization"),
    ("_streams", [("o", 1)] * 3, RateLimited, "imports and exports"),
    ("_streams", [("o", 1), ("o", 1), ("o", 2), ("o", 2), ("o", 3)], Overloaded, "organization"),
])  # fmt: skip
async def test_a_full_queue_names_what_waits(monkeypatch, name, keys, kind, words):
    monkeypatch.setattr(concurrency, "MAX_HASHING_WAIT_S", 0.05)
    monkeypatch.setattr(concurrency, "MAX_WAIT_S", 0.05)
    semaphore: FairSemaphore = getattr(concurrency.ConcurrencyLimit(), name)
    error = await fill(semaphore, *keys)
    assert isinstance(error, kind)
    assert words in str(error)
    assert "database" not in str(error)


async def test_a_login_behind_a_full_queue_is_told_so(settings, monkeypatch):
    """The queue of logins, not the database: health is ready, and other requests are answered."""
    monkeypatch.setattr(concurrency, "MAX_HASHING_WAIT_S", 0.05)
    started, may_end = asyncio.Event(), asyncio.Event()

    async def slow(*_):
        started.set()
        await may_end.wait()
        return []

    from app.resources import auth

    monkeypatch.setattr(auth.passwords, "verify", slow)
    login = {"email": "alma@north.test", "password": "wrong password 12"}
    proxied = msgspec.structs.replace(settings, trusted_proxies="127.0.0.1")
    async with instance(proxied) as client:
        # Two run; both are from other addresses than the third.
        running = [
            asyncio.create_task(client.post("/api/auth/login", json=login, headers={"X-Forwarded-For": f"192.0.2.{n}"}))
            for n in (1, 2)
        ]
        await asyncio.wait_for(started.wait(), 10)
        await asyncio.sleep(0)
        third = await client.post("/api/auth/login", json=login, headers={"X-Forwarded-For": "198.51.100.3"})
        same = await client.post("/api/auth/login", json=login, headers={"X-Forwarded-For": "192.0.2.1"})
        assert (await client.get("/health/ready")).status_code == 200
        may_end.set()
        await asyncio.gather(*running)
    assert (third.status_code, same.status_code) == (503, 429)
    for answer in (third, same):
        assert "logins" in text(answer)
        assert "database" not in text(answer)
        assert answer.headers["Retry-After"]


async def test_a_429_names_its_limit(settings, cast):
    async with instance(settings, rate_limit_user=1) as client:
        answers = [await client.get("/api/auth/me", headers=bearer(cast, "alma")) for _ in range(2)]
    async with instance(settings, "192.0.2.7", rate_limit_address=1) as client:
        answers += [await client.get("/docs") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429, 200, 429]
    assert "This user" in text(answers[1])
    assert "This address" in text(answers[3])


async def test_login_attempts_beyond_a_limit_are_alike_for_every_account(settings, monkeypatch):
    from app.http import login_throttle

    monkeypatch.setattr(login_throttle, "MAX_ATTEMPTS_PER_ACCOUNT", 1)
    told = []
    async with instance(settings) as client:
        for email in ("alma@north.test", "unknown@nowhere.test"):
            for _ in range(2):
                answer = await client.post("/api/auth/login", json={"email": email, "password": "wrong password 12"})
                told.append((answer.status_code, text(answer), answer.json()["error"].get("details")))
    assert told[:2] == told[2:]
    assert [told[0][0], told[1][0]] == [401, 429]
    assert told[0][1] == Unauthorized.__doc__
    assert "login attempts" in told[1][1]


async def test_a_spool_names_its_limit():
    disk = spool.Disk(100)
    with pytest.raises(RateLimited, match="Your unfinished imports"):
        disk.reserve("a", 26)
    for user in "abcd":
        disk.reserve(user, 25)
    with pytest.raises(Unavailable, match="no space for more imports"):
        disk.reserve("e", 1)


async def test_registration_that_is_closed_is_no_matter_of_roles(settings):
    body = {
        "organizationName": "New",
        "email": "new@new.test",
        "name": "New",
        "password": "correct horse battery staple",
    }
    async with instance(settings, registration="closed") as client:
        answer = await client.post("/api/auth/register", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")
    assert "invitation" in text(answer)
    assert text(answer) != Forbidden.__doc__


async def test_every_409_names_its_cause(as_user, as_root, cast):
    alma = as_user("alma")
    taken = {
        "memberNumber: Is taken.": await alma.post("/api/patients", patient() | {"memberNumber": "M-1"}),
        "npi: Is taken.": await alma.post("/api/providers", {"npi": "1234567893", "name": "Again"}),
        "slug: Is taken.": await alma.patch("/api/organization", {"slug": "south"}),
        "email: Is taken.": await alma.post("/api/invitations", {"email": "pia@north.test", "role": "admin"}),
        "role: The last active admin can't be demoted or deactivated.": await alma.patch(
            f"/api/users/{cast.alma}", {"role": "claims_processor"}
        ),
        "active: The last active admin can't be demoted or deactivated.": await alma.patch(f"/api/users/{cast.alma}", {"active": False}),
        "status: Only failed jobs can be retried.": await alma.post(f"/api/jobs/{cast.toms_job}/retry", None),
        "userId: Must be an active claims processor.": await alma("PUT", f"/api/claims/{cast.anas_claim}/assignment",
                                                                  json={"userId": str(cast.ana)}),
    }  # fmt: skip
    for message, answer in taken.items():
        assert (answer.status_code, text(answer)) == (409, message)
        (field,) = answer.json()["error"]["details"]["fields"]
        assert message.startswith(f"{field}: ")


async def test_a_key_in_flight_is_named(monkeypatch):
    from app.http import idempotency

    monkeypatch.setattr(idempotency, "KEY_LOCK_TIMEOUT_S", 0.01)
    async with exclusive("k"):
        with pytest.raises(Conflict, match="Idempotency-Key: Is used by a request that is still running"):
            async with exclusive("k"):
                pass


async def test_a_413_names_its_limit(as_user, cast):
    alma = as_user("alma")
    large = await alma.post("/api/claims", {"notes": "x" * 1_000_001})
    assert (large.status_code, large.json()["error"]["details"]["fields"]) == (
        413,
        {"body": ["Must have at most 1000000 bytes"]},
    )
    long = await alma("POST", "/api/claims/import", content=b"x" * 20_000, headers=NDJSON)
    (result,) = [json.loads(one) for one in long.text.splitlines()]
    assert result["error"]["message"].startswith("The line is longer")
    assert result["error"]["fields"] == {"body": ["Must have at most 16384 bytes"]}


async def test_a_value_that_cannot_be_sent_is_named():
    assert from_database(psycopg.DataError("x")).details
