"""A real PostgreSQL for every test: one server a run, one database cloned from a template for each test.

TEST_DATABASE_URL names another server (an administrator's login); TEST_DATABASE=testcontainers starts one in Docker.
TEST_POOLER_URL names a pooler in front of it, which the API then goes through.
"""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.config import Settings
from app.database.context import BEGIN_CONTEXT, ContextSigner
from app.database.statements import Statement
from app.dev.postgres import Embedded
from app.main import create_app
from app.operations import migrate
from app.operations.reference_data import load_diagnosis_codes
from app.security.passwords import hash_password
from app.security.tokens import Caller, make_token, secret_hash

KEYS = {"test": b"a secret of the tests; 32 bytes and more"}
PASSWORD = "correct horse battery staple"
PASSWORD_HASH = hash_password(PASSWORD)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def _container() -> Iterator[str]:
    from testcontainers.community.postgres import PostgresContainer

    try:
        container = PostgresContainer("postgres:18", driver=None).start()
    except Exception as error:
        pytest.exit(f"TEST_DATABASE=testcontainers: no Docker engine answers ({type(error).__name__})", returncode=2)
    try:
        yield container.get_connection_url()
    finally:
        container.stop()


def _fast_folder() -> str | None:
    """Memory where there is enough: cloning a database makes five hundred files, which a disk may take a third of a second for."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 4 << 30 else None


@contextmanager
def embedded_server() -> Iterator[str]:
    """An administrator's URL of a server that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="claims-test-", dir=_fast_folder()) as folder:
        Path(folder).chmod(0o711)
        server = Embedded(Path(folder) / "postgres", durable=False).start()
        try:
            yield server.url()
        finally:
            server.stop("immediate")


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """An administrator's URL of the server under test."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    with _container() if os.environ.get("TEST_DATABASE") == "testcontainers" else embedded_server() as url:
        yield url


def url_for(url: str, database: str, user: str | None = None, password: str | None = None) -> str:
    """The same server, another database, perhaps another login, as a postgresql:// URL."""
    from app.dev.run import login_url

    parts = conninfo_to_dict(make_conninfo(url, dbname=database))
    plain = login_url(
        make_conninfo(url, dbname=database),
        user or str(parts.get("user")),
        password or str(parts.get("password") or ""),
    )
    return plain.replace(":@", "@")


def settings_for(server_url: str, database: str) -> Settings:
    return Settings(
        environment="test",
        database_url=url_for(server_url, database),
        api_database_url=url_for(server_url, database, "claims_api", "api-password"),
        worker_database_url=url_for(server_url, database, "claims_worker", "worker-password"),
        token_keys=KEYS,
        pool_size=8,
        prepared_statements=os.environ.get("PREPARED_STATEMENTS") or "on",
    )


@pytest.fixture(scope="session")
def template(server_url: str) -> Iterator[str]:
    """A database with the schema and the named cast, never connected to again."""
    name = f"claims_template_{uuid4().hex[:8]}"
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"create database {name}")
        try:
            settings = settings_for(server_url, name)
            # Roles belong to the whole server, and another run's worker may be making them.
            admin.execute("select pg_advisory_lock(%s)", [migrate.LOCK])
            migrate.apply(settings)
            admin.execute("select pg_advisory_unlock(%s)", [migrate.LOCK])
            with psycopg.connect(settings.database_url) as connection:
                plant_cast(connection)
                connection.execute(
                    "select app.apply_all_total_changes(1)"
                )  # of each organization's two changes one is folded
                connection.commit()
                connection.execute("select app.seal_audit_logs()")
            with psycopg.connect(settings.database_url, autocommit=True) as connection:
                # Two thirds of every clone would be codes that no test asks for.
                connection.execute("delete from app.diagnosis_codes where code !~ '^(A0|E0|E1|E88|I1|W0)'")
                connection.execute("vacuum (full, analyze) app.diagnosis_codes")
            yield name
        finally:
            admin.execute(f"drop database {name} with (force)")


@dataclass
class Cast:
    """Two tenants with the same people; ids by name. north is the one under test, south the other."""

    ids: dict[str, UUID]
    emails: dict[UUID, str]

    def __getattr__(self, name: str) -> UUID:
        try:
            return self.ids[name]
        except KeyError:
            raise AttributeError(name) from None


def plant_cast(connection: psycopg.Connection[Any]) -> None:
    """alma (admin), pia and paul (processors), ana and ben (providers), tom and tina (patients) in north; the same in south.

    ana treats tom, ben treats tina. anas_claim is tom's, assigned to pia; bens_claim is tina's, unassigned.
    """
    for slug in ("north", "south"):
        one = lambda statement, *given: connection.execute(statement, given).fetchone()[0]  # noqa: E731
        organization = one("select auth.add_organization(%s, %s)", slug, slug.title())
        connection.execute(
            "update app.organizations set auto_approve_limit_cents = 100000, claim_amount_limit_cents = 25000000 "
            "where organization_id = %s",
            [organization],
        )

        def user(name: str, role: str, provider: UUID | None = None, patient: UUID | None = None) -> UUID:
            call = "select auth.add_user(%s, %s, %s, %s, %s, %s)"
            return one(call, f"{name}@{slug}.test", name.title(), role, provider, patient, PASSWORD_HASH)  # noqa: B023

        alma = user("alma", "admin")
        pia, _paul = user("pia", "claims_processor"), user("paul", "claims_processor")
        enter = "select set_config('role', context.begin_request(%s, %s, null, 'cast', '', 'sql', false), true)"
        connection.execute("set local search_path = app")
        one(enter, organization, alma)
        new_provider = "insert into providers (npi, name) values (%s, %s) returning provider_id"
        ana, ben = one(new_provider, "1234567893", "Ana"), one(new_provider, "1245319599", "Ben")
        new_patient = (
            "insert into patients (member_number, first_name, last_name, date_of_birth) values (%s, %s, %s, '1980-02-03') "
            "returning patient_id"
        )
        tom, tina = one(new_patient, "M-1", "Tom", slug), one(new_patient, "M-2", "Tina", slug)
        new_claim = (
            "insert into claims (claim_number, patient_id, provider_id, diagnosis_code, amount_cents, service_date) "
            "values (%s, %s, %s, 'E11.9', 12550, current_date - 3) returning claim_id"
        )
        anas, _bens = one(new_claim, "C-ANA", tom, ana), one(new_claim, "C-BEN", tina, ben)
        connection.execute("update claims set assigned_to = %s where claim_id = %s", [pia, anas])
        one(
            "insert into patient_status_events (patient_id, event_type, occurred_at) values (%s, 'admission', now()) "
            "returning event_id",
            tom,
        )
        one(
            "insert into invitations (email, role, token_hash) values ('new@' || %s || '.test', 'admin', %s) returning invitation_id",
            slug,
            secret_hash(f"invitation to {slug}"),
        )
        connection.execute("select reserve_idempotency_key('/api/claims', 'cast', '')")
        connection.execute("reset role")
        user("ana", "provider", provider=ana)
        user("ben", "provider", provider=ben)
        user("tom", "patient", patient=tom)
        user("tina", "patient", patient=tina)
    # A session for everybody, by the user's own id: tokens of the tests name it.
    connection.execute(
        "insert into auth.sessions (organization_id, session_id, user_id) select organization_id, user_id, user_id from users"
    )
    # The cast's own jobs are no test's business, and readiness wants a worker that lives.
    connection.execute("set local search_path = procrastinate; delete from procrastinate_jobs")
    connection.execute("insert into procrastinate_workers (last_heartbeat) values ('infinity')")


_WHO = """
select o.slug, 'organization', o.organization_id, null from app.organizations o
union all select o.slug, split_part(u.email, '@', 1), u.user_id, u.email
from app.users u join app.organizations o using (organization_id)
union all select o.slug, lower(p.name) || '_provider', p.provider_id, null
from app.providers p join app.organizations o using (organization_id)
union all select o.slug, lower(p.first_name) || '_patient', p.patient_id, null
from app.patients p join app.organizations o using (organization_id)
union all select o.slug, case c.claim_number when 'C-ANA' then 'anas_claim' else 'bens_claim' end, c.claim_id, null
from app.claims c join app.organizations o using (organization_id)
union all select o.slug, 'toms_event', e.event_id, null
from app.patient_status_events e join app.organizations o using (organization_id)
union all select o.slug, 'invitation', i.invitation_id, null
from app.invitations i join app.organizations o using (organization_id)
union all select o.slug, 'toms_job', j.job_id, null
from app.job_processing_logs j join app.organizations o using (organization_id)"""


@pytest.fixture
def settings(server_url: str, template: str) -> Iterator[Settings]:
    """A database of the test's own."""
    name = f"claims_{uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"create database {name} template {template} strategy file_copy")  # half the time of wal_log
        admin.execute(f"revoke all on database {name} from public")
        admin.execute(f"grant connect on database {name} to claims_api, claims_worker, claims_auditor")
        try:
            own = settings_for(server_url, name)
            if pooler := os.environ.get("TEST_POOLER_URL"):
                own = msgspec.structs.replace(own, api_database_url=url_for(pooler, name, "claims_api", "api-password"))
            yield own
        finally:
            admin.execute(f"drop database {name} with (force)")


@pytest.fixture
def as_root(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """The administrator's connection: for controls and for arranging, never for what is tested."""
    with psycopg.connect(settings.database_url, autocommit=True, options="-c search_path=app") as connection:
        yield connection


def load_all_codes(connection: psycopg.Connection[Any]) -> None:
    """Into a database of the test's own, whose template holds a few."""
    connection.execute("truncate app.diagnosis_codes")
    load_diagnosis_codes(connection)


@pytest.fixture
def casts(as_root: psycopg.Connection[Any]) -> dict[str, Cast]:
    found = {"north": Cast({}, {}), "south": Cast({}, {})}
    for slug, name, id_, email in as_root.execute(_WHO).fetchall():
        found[slug].ids[name] = id_
        if email:
            found[slug].emails[id_] = email
    return found


@pytest.fixture
def cast(casts: dict[str, Cast]) -> Cast:
    return casts["north"]


@pytest.fixture
def other(casts: dict[str, Cast]) -> Cast:
    return casts["south"]


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """An anonymous client of the API over the test's own database."""
    app = create_app(settings)
    async with app.lifespan():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as anonymous:
            yield anonymous


async def until(condition, seconds: float = 15.0):
    """Waits for a condition, not for a time."""
    deadline = time.monotonic() + seconds
    while not (found := await condition()):
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.02)
    return found


class As:
    """A client that calls as one user."""

    def __init__(self, client: httpx.AsyncClient, token: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}

    async def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self._client.request(method, path, headers=self._headers | options.pop("headers", {}), **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self("GET", path, **options)

    async def post(self, path: str, json: Any) -> httpx.Response:
        return await self("POST", path, json=json)

    async def patch(self, path: str, json: Any) -> httpx.Response:
        return await self("PATCH", path, json=json)


ROLE = {
    "alma": "admin",
    "pia": "claims_processor",
    "paul": "claims_processor",
    "ana": "provider",
    "ben": "provider",
    "tom": "patient",
    "tina": "patient",
}


def caller(who: Cast, name: str) -> Caller:
    """Whom a token of this person of the cast names."""
    return Caller(who.organization, who.ids[name], who.ids[name], ROLE[name])


KID, CONTEXT_KEY = next(iter(Settings(token_keys=KEYS).context_keys().items()))
SIGNER = ContextSigner(KID, CONTEXT_KEY)


def sign_context(who: Cast, name: str, backend: int = 0, *, read_only: bool = False) -> dict[str, Any]:
    """ENTER's parameters for this person of the cast, as the API would sign them for that backend, or for any."""
    given = SIGNER.sign_context(caller(who, name), request_id="test", address="", source="api", read_only=read_only)
    return given | {"proof": given["proof"](backend)}


def calling(query: Statement, **given: Any) -> dict[str, Any]:
    """The query's parameters as the API would sign them for any backend."""
    signed = SIGNER.sign_call(query, given)
    return signed | {"proof": signed["proof"](0)}


@pytest.fixture
def as_user(client: httpx.AsyncClient, casts: dict[str, Cast]) -> Callable[..., As]:
    """as_user("ana"), as_user("alma", "south")."""

    def make(name: str, tenant: str = "north") -> As:
        who = casts[tenant]
        return As(client, make_token(caller(who, name), KEYS))

    return make


@pytest.fixture
def as_role(settings: Settings, casts: dict[str, Cast]) -> Iterator[Callable[..., psycopg.Connection[Any]]]:
    """SQL as a user: a connection of claims_api inside a transaction with that user's context, rolled back at the end."""
    opened = []

    def make(name: str, tenant: str = "north") -> psycopg.Connection[Any]:
        connection = psycopg.connect(settings.api_database_url)
        opened.append(connection)
        who = casts[tenant]
        connection.execute(BEGIN_CONTEXT, sign_context(who, name))
        return connection

    yield make
    for connection in opened:
        if not connection.closed:
            connection.rollback()  # or the server would not count the last statement (tests/security/policies/coverage.py)
            connection.close()
