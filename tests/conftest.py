"""Fixtures: one PostgreSQL server a run, and one database for each test, cloned from a template.

TEST_DATABASE_URL names another server (an administrator's login); TEST_DATABASE=testcontainers starts one in Docker.
TEST_POOLER_URL names a pooler in front of it, which the API then uses.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import psycopg
import pytest

from app.config import Settings
from app.database.context import BEGIN_CONTEXT
from app.main import create_app
from app.security.tokens import make_token
from tests.support.cast import KEYS, Cast, caller, read_casts, sign_context
from tests.support.clients import As
from tests.support.databases import any_server, settings_for, template_database, url_for
from tests.support.workers import Stay, Workers, World


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """An administrator's URL of the server under test."""
    with any_server() as url:
        yield url


@pytest.fixture(scope="session")
def template(server_url: str) -> Iterator[str]:
    """A database with the schema and the cast, to which nothing connects any more."""
    with template_database(server_url) as name:
        yield name


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
    """The administrator's connection: for controls and arrangement, never for the tested call."""
    with psycopg.connect(settings.database_url, autocommit=True, options="-c search_path=app") as connection:
        yield connection


@pytest.fixture
def casts(as_root: psycopg.Connection[Any]) -> dict[str, Cast]:
    """The cast of both organizations, by slug."""
    return read_casts(as_root)


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
            connection.rollback()  # or tests/security/policies/coverage.py misses the last statement
            connection.close()


@pytest.fixture
def workers(settings: Settings) -> Iterator[Workers]:
    """Starts worker processes, which end with the test."""
    with Workers(settings) as started:
        yield started


@pytest.fixture
def world(as_user: Callable[..., As], cast: Cast) -> World:
    """Creates patients, claims and events as an admin."""
    return World(as_user("alma"), cast)


@pytest.fixture
def stay(as_user: Callable[..., As], settings: Settings, as_root: psycopg.Connection[Any], cast: Cast) -> Stay:
    """As world, and runs the job of each event at once."""
    return Stay(as_user("alma"), cast, settings, as_root)
