"""Operation faults as an operator sees them: clocks or keys that differ, a full disk, no connection left."""

import asyncio
import os
import subprocess
import sys
import time

import msgspec
import psycopg
import pytest

from app.database.pool import TOO_MANY, connection_problem
from app.database.server_version import UnsafeDatabase
from app.dev.postgres import binaries
from app.operations import migrate
from app.security.tokens import make_token
from tests.operations.test_processes import environ_for
from tests.resources.test_auth import call, instance, refresh, seed_login
from tests.security.attacks.cases import patient
from tests.security.test_tokens import me
from tests.support.cast import KEYS, PASSWORD, caller
from tests.support.databases import url_for

OTHER = {"test": b"another secret under the same name, 32 bytes"}
FIRST, SECOND = KEYS, {"second": b"a second secret of the tests; 32 bytes and more"}
real_time = time.time


def shifted(monkeypatch, seconds):
    """This process's clock, shifted against the database's; 0 resets it."""
    monkeypatch.setattr(time, "time", lambda: real_time() + seconds)


async def ready(client):
    answer = await client.get("/health/ready")
    return answer.status_code, answer.json()


@pytest.mark.parametrize("seconds", [120, -120])
async def test_different_clocks_are_named_and_are_not_the_clients_fault(
    client, as_root, cast, monkeypatch, caplog, seconds
):
    """Every valid login and token was 401, and readiness was 200."""
    tokens = seed_login(as_root, cast, "ana")
    shifted(monkeypatch, seconds)
    path = "/api/auth/me"
    for answer in (
        await client.get(path, headers={"Authorization": f"Bearer {make_token(caller(cast, 'ana'), KEYS)}"}),
        await call(client, "login", email="ana@north.test", password=PASSWORD),
        await refresh(client, tokens),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "UNAVAILABLE")
        assert "Retry-After" in answer.headers
    assert "compare the clocks" in caplog.text
    status, parts = await ready(client)
    words = f"120.0 s {'ahead of' if seconds > 0 else 'behind'} the database's"
    assert (status, parts["clock"], parts["keys"], parts["database"]) == (503, words, "ok", "ok")
    shifted(monkeypatch, 0)
    status, parts = await ready(client)
    assert (status, parts["clock"]) == (200, "ok")  # control
    assert (await call(client, "login", email="ana@north.test", password=PASSWORD)).status_code == 200


async def test_a_small_difference_of_clocks_is_accepted(client, cast, monkeypatch):
    for seconds in (2, -2):
        shifted(monkeypatch, seconds)
        assert (await ready(client))[0] == 200
        assert (await me(client, make_token(caller(cast, "ana"), KEYS))).status_code == 200


async def test_a_token_may_come_from_a_clock_five_seconds_ahead(client, cast):
    """A token of another process: iat and nbf have that leeway, exp has none."""
    now = int(real_time())
    for made_at, status in ((now + 4, 200), (now + 30, 401), (now - 900 + 3, 200), (now - 901, 401), (now - 903, 401)):
        token = make_token(caller(cast, "ana"), KEYS, made_at)
        assert (await me(client, token)).status_code == status, made_at - now


async def test_another_secret_under_a_known_name_is_found(settings, as_root, cast, caplog):
    """At start, by readiness, and by every request, which is no client's fault."""
    token = make_token(caller(cast, "ana"), KEYS)
    async with instance(settings) as client:
        assert (await me(client, token)).status_code == 200  # control
        migrate.apply(msgspec.structs.replace(settings, token_keys=OTHER, force=True))
        answer = await me(client, token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "UNAVAILABLE")
        assert "another secret, or none, under that name of TOKEN_KEYS" in caplog.text
        status, parts = await ready(client)
        assert (status, parts["keys"]) == (503, "the database has another secret under test")
        with pytest.raises(ExceptionGroup) as caught:
            async with instance(settings):
                pass
        assert caught.group_contains(
            UnsafeDatabase, match="keys: the database has another secret under test. Run `make schema`"
        )
        migrate.apply(msgspec.structs.replace(settings, token_keys=SECOND, force=True))
        status, parts = await ready(client)
        assert (status, parts["keys"]) == (503, "the database has no key test")
        migrate.apply(settings)
        assert (await ready(client))[0] == 200
        assert (await me(client, token)).status_code == 200


async def test_the_schema_step_invalidates_the_keys_of_no_running_process(settings, as_root, cast):
    """Nor those of one that signs with a name longer than PostgreSQL keeps.

    Without a running process keys may be added and removed, also one whose name begins with that of a key in use.
    """
    migrate.apply(
        msgspec.structs.replace(settings, token_keys=FIRST | {"test2": b"a retired secret; long enough: 32 bytes"})
    )
    async with instance(settings):
        migrate.apply(settings)
    long = {"k" * 64: b"a secret under the longest name; 32 bytes"}
    for running, given in ((FIRST, OTHER), (FIRST, SECOND), (long, SECOND)):
        migrate.apply(msgspec.structs.replace(settings, token_keys=running))
        async with instance(settings, token_keys=running) as client:
            told = msgspec.structs.replace(settings, token_keys=given)
            with pytest.raises(UnsafeDatabase, match=f"sign with {next(iter(running))}, which TOKEN_KEYS lack"):
                migrate.apply(told)
            assert (await ready(client))[0] == 200
            # Control: listed as well.
            migrate.apply(msgspec.structs.replace(settings, token_keys=given | SECOND | running))
            assert (await ready(client))[0] == 200
        gone = "select count(*) from pg_stat_activity where datname = current_database() and usename = 'claims_api'"
        async with asyncio.timeout(10):
            while as_root.execute(gone).fetchone() != (0,):
                await asyncio.sleep(0.02)
        migrate.apply(told)
    command = [sys.executable, "-m", "app.operations.migrate"]
    async with instance(settings, token_keys=SECOND):
        told = {"DATABASE_URL": settings.database_url, "TOKEN_KEYS": f"test:{KEYS['test'].decode()}"}
        refused = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, timeout=60)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "FORCE=1" in refused.stderr
        forced = subprocess.run(command, env=os.environ | told | {"FORCE": "1"}, capture_output=True, timeout=60)
        assert forced.returncode == 0


async def test_a_full_disk_is_named(client, as_user, as_root, cast, caplog):
    """In the response, the log and readiness.

    The server reports it for a statement without space; here a trigger raises the error.
    """
    as_root.execute("create function public.full() returns trigger language plpgsql as $$ begin "
                    "raise exception using errcode = 'disk_full', message = 'could not extend file base/16384/16400'; end $$")  # fmt: skip
    as_root.execute("create trigger full_disk before insert on patients for each row execute function public.full()")
    answer = await as_user("alma").post("/api/patients", patient())
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        503,
        "The database has no space left on its disk.",
    )
    assert "DiskFull 53100" in caplog.text
    assert "base/" not in caplog.text + answer.text
    status, parts = await ready(client)
    assert (status, parts["database"]) == (503, "has no space left on its disk")
    as_root.execute("drop trigger full_disk on patients")
    client._transport.app.state.pool._disk_full_at -= 31
    assert (await ready(client))[1]["database"] == "ok"
    assert (await as_user("alma").post("/api/patients", patient())).status_code == 201  # control


async def test_a_new_process_without_a_connection_exits_with_one_line(settings, as_root):
    """A running process names what it lacks."""
    name = psycopg.conninfo.conninfo_to_dict(settings.api_database_url)["dbname"]
    limit = f"alter database {name} connection limit %s"
    async with instance(settings, pool_size=1) as client:
        assert (await ready(client))[0] == 200
        other = psycopg.connect(settings.api_database_url)
        as_root.execute(limit % 1)
        try:
            told = environ_for(settings, PROCESSES="1")
            ended = subprocess.run([sys.executable, "-m", "app"], env=told, capture_output=True, text=True, timeout=60)
            assert (ended.returncode, ended.stderr) == (
                3,
                "the API can't start: the database takes no more connections\n",
            )
            others = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'claims_api' and datname = %s and pid <> %s"
            as_root.execute(others, [name, other.info.backend_pid])
            async with asyncio.timeout(20):
                while (await ready(client))[1]["database"] != TOO_MANY:
                    await asyncio.sleep(0.05)
            answer = await call(client, "login", email="ana@north.test", password=PASSWORD)
            assert (answer.status_code, answer.json()["error"]["message"]) == (
                503,
                "The database takes no more connections.",
            )
            status, parts = await ready(client)
            assert (status, parts["schema"], parts["queue"]) == (503, "unknown", "unknown")
        finally:
            other.close()
            as_root.execute(limit % -1)
        async with asyncio.timeout(20):
            while (await ready(client))[0] != 200:
                await asyncio.sleep(0.05)


def test_worker_and_schema_step_without_a_database_exit_with_one_line():
    nowhere = "postgresql://claims_worker:secret@127.0.0.1:1/none"
    for command, told, status, line in (
        (
            ["procrastinate", "worker"],
            "WORKER_DATABASE_URL",
            1,
            "the worker can't start: the database can't be reached",
        ),
        (["app.operations.migrate"], "DATABASE_URL", 2, "schema: the database can't be reached"),
    ):
        environ = os.environ | {told: nowhere, "PROCRASTINATE_APP": "jobs.app"}
        ended = subprocess.run(
            [sys.executable, "-m", *command], env=environ, capture_output=True, text=True, timeout=60
        )
        assert (ended.returncode, ended.stderr.splitlines()) == (status, [line]), ended.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"user": "no_such_login"}, "rejects this login"),
        ({"database": "no_such_database"}, "does not exist on this server"),
    ],
)
def test_the_cause_of_a_missing_connection_is_logged_without_names(
    server_url, settings, change, words
):  # settings: the roles exist
    parts = {"database": "postgres", "user": "claims_api"} | change
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(url_for(server_url, parts["database"], parts["user"], "api-password")).close()
    assert connection_problem(caught.value) == words
    assert connection_problem(psycopg.OperationalError("connection refused")) == "can't be reached"


def unlock(settings, email):
    command = [
        binaries() / "psql",
        settings.database_url,
        "-qXv",
        f"email={email}",
        "-f",
        "sql/operations/unlock_account.sql",
    ]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=30)


async def test_unlocking_an_account_resets_its_attempts(settings, client, as_root, casts):
    for _ in range(11):
        last = await call(client, "login", email="ana@north.test", password="wrong")
    assert last.status_code == 429
    assert (await call(client, "login", email="ana@north.test", password=PASSWORD)).status_code == 429  # control
    assert unlock(settings, "ben@north.test").returncode == 0  # control: another account
    assert (await call(client, "login", email="ana@north.test", password=PASSWORD)).status_code == 429
    assert unlock(settings, "Ana@North.test").stdout == "Ana@North.test may log in again\n"
    assert (await call(client, "login", email="ana@north.test", password=PASSWORD)).status_code == 200
    entries = as_root.execute(
        "select organization_id, actor_role, action, entity, entity_id from audit_logs where outcome = 'unlocked' order by audit_id"
    ).fetchall()
    operator, north = as_root.execute("select session_user::text").fetchone()[0], casts["north"]
    assert entries == [(north.organization, operator, "execute", "users", user) for user in (north.ben, north.ana)]
    for email in ("unknown@north.test", "", "x' or true --"):
        unknown = unlock(settings, email)
        assert unknown.returncode != 0
        assert "no user has that email" in unknown.stderr
