"""One round trip to the database for every ordinary request, counted on the connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
from psycopg.conninfo import conninfo_to_dict

from app.main import create_app
from app.security.tokens import make_token
from tests.security.attacks.cases import claim, event, patient
from tests.support.cast import KEYS, caller
from tests.support.databases import url_for


class CountingProxy:
    """A proxy between the API and its server that counts round trips."""

    def __init__(self, server: dict) -> None:
        self._server = server
        self.round_trips = 0
        self._answered = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (host := self._server["host"]).startswith("/"):
            there = await asyncio.open_unix_connection(str(Path(host) / f".s.PGSQL.{self._server.get('port', 5432)}"))
        else:
            there = await asyncio.open_connection(host, int(self._server.get("port", 5432)))
        await asyncio.gather(self._pass(reader, there[1], asks=True), self._pass(there[0], writer, asks=False))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, asks: bool) -> None:
        while data := await reader.read(65536):
            if asks and self._answered:
                self.round_trips += 1
            self._answered = not asks
            writer.write(data)
        writer.close()


@pytest.fixture
async def wire(settings, server_url) -> AsyncIterator[tuple[httpx.AsyncClient, CountingProxy]]:
    """A client of an API with one connection, and the proxy of that connection."""
    known = conninfo_to_dict(settings.api_database_url)
    wire = CountingProxy(known)
    proxy = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    url = url_for(f"postgresql://claims_api@127.0.0.1:{port}/", known["dbname"], "claims_api", "api-password")
    alone = msgspec.structs.replace(
        settings, api_database_url=url, pool_size=1, rate_limit_user=0, rate_limit_address=0
    )
    async with served(alone) as client:
        yield client, wire
    proxy.close()


@asynccontextmanager
async def served(settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with app.lifespan():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


ORDINARY = [
    "GET /api/auth/me",
    "GET /api/claims",
    "GET /api/claims?status=submitted&limit=1",
    "GET /api/claims?offset=0",
    "GET /api/claims/{anas_claim}",
    "GET /api/claims/stats",
    "POST /api/claims",
    "PATCH /api/claims/{anas_claim}",
    "PUT /api/claims/{anas_claim}/assignment",
    "POST /api/claims/next",
    "POST /api/claims/bulk-status-update",
    "GET /api/patients",
    "GET /api/patients/{tom_patient}",
    "POST /api/patients",
    "GET /api/providers",
    "GET /api/users",
    "GET /api/organization",
    "POST /api/patient-status",
    "GET /api/jobs",
    "GET /api/audit-logs",
    "GET /api/diagnosis-codes?search=E11",
    "GET /api/invitations",
]


@pytest.mark.parametrize("ordinary", ORDINARY)
async def test_an_ordinary_request_is_one_round_trip(wire, cast, ordinary):
    client, proxy = wire
    method, path = ordinary.format(anas_claim=cast.anas_claim, tom_patient=cast.tom_patient).split(" ")
    bodies = {
        "/api/claims": lambda: claim(cast),
        "/api/patients": patient,
        "/api/patient-status": lambda: event(cast),
        f"/api/claims/{cast.anas_claim}": lambda: {"notes": "seen"},
        f"/api/claims/{cast.anas_claim}/assignment": lambda: {"userId": str(cast.pia)},
        "/api/claims/bulk-status-update": lambda: {"claimIds": [str(cast.anas_claim)], "status": "under_review"},
    }
    who = "pia" if path.endswith("/next") else "alma"
    headers = {"Authorization": f"Bearer {make_token(caller(cast, who), KEYS)}"}
    for _ in range(2):  # the first request also prepares each statement, in the same round trip
        body = bodies[path]() if method != "GET" and path in bodies else None
        before = proxy.round_trips
        answer = await client.request(method, path, json=body, headers=headers)
        assert answer.is_success, answer.text
        assert proxy.round_trips - before == 1


async def test_a_request_with_an_idempotency_key_takes_three(wire, cast):
    """Control: the first reserves the key, the second has the effect, the third stores the response and commits."""
    client, proxy = wire
    headers = {"Authorization": f"Bearer {make_token(caller(cast, 'alma'), KEYS)}", "Idempotency-Key": "k"}
    before = proxy.round_trips
    answer = await client.post("/api/patients", json=patient(), headers=headers)
    assert (answer.status_code, proxy.round_trips - before) == (201, 3)
