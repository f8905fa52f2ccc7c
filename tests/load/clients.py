"""Clients that repeat each request until it succeeds, with a history of their requests and responses."""

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import httpx

ANSWER_WITHIN = 5.0
"""Seconds until a client repeats a request with the same key, while the first may still be running."""
AGAIN = {409, 429, 503}
"""Statuses after which a client repeats the request. 409: another request with the same key is running."""


@dataclass
class Response:
    """A request's start and end, by time.monotonic(). what: a status, or the name of the error."""

    sent_at: float
    at: float
    what: int | str
    id: str | None = None


@dataclass
class Posted:
    """A request under one key, with every response."""

    kind: str  # event or claim
    organization: str
    patient: str
    key: str
    body: dict[str, Any]
    answers: list[Response] = field(default_factory=list)

    @property
    def sent_at(self) -> float:
        """The time of the first try; infinite without one."""
        return self.answers[0].sent_at if self.answers else float("inf")

    @property
    def acknowledged_at(self) -> float:
        """The time of the first acknowledgement; infinite without one."""
        return min((one.at for one in self.answers if one.id), default=float("inf"))

    @property
    def ids(self) -> set[str]:
        """The ids in the acknowledgements: one, or the request had two effects."""
        return {one.id for one in self.answers if one.id}


@dataclass
class History:
    """Requests and responses of all clients. results: by event, as they were read over HTTP; answers: responses by kind."""

    posted: list[Posted] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    succeeded_at: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)

    def acknowledged(self) -> list[Posted]:
        """The requests whose effects must exist."""
        return [one for one in self.posted if one.ids]

    def longest_outage(self) -> float:
        """Seconds: the longest time without a successful request of any client."""
        times = pairwise(sorted(self.succeeded_at))
        return max((after - before for before, after in times), default=0.0)


@dataclass(frozen=True)
class Tenant:
    """An organization and its users. logins: email addresses, all with the same password."""

    organization: str
    logins: list[str]
    provider: str
    patients: list[str]


@dataclass
class Times:
    """By time.monotonic(): until when clients begin requests, and until when they repeat them."""

    until: float
    give_up: float


class Client:
    """A user's system: reports visits, submits claims, reads results, one request at a time."""

    def __init__(self, name: str, seed: int, tenant: Tenant, http: httpx.AsyncClient, history: History) -> None:
        self._name = name
        self._chance = random.Random(f"{seed} {name}")
        self._tenant = tenant
        self._http = http
        self._history = history
        self._number = 0
        self._visits: dict[str, tuple[str, str]] = {}

    async def run(self, times: Times) -> None:
        """Repeats its requests until they are acknowledged, or until its time is over."""
        while time.monotonic() < times.until:
            patient = self._chance.choice(self._tenant.patients)
            match self._chance.choices(["claim", "event", "read"], [4, 5, 2])[0]:
                case "claim":
                    await self._repeat(self._claim(patient), "/api/claims", times)
                case "event":
                    await self._repeat(self._event(patient), "/api/patient-status", times)
                case "read":
                    await self._read(patient)
            await asyncio.sleep(self._chance.uniform(0.02, 0.2))

    def _key(self) -> str:
        self._number += 1
        return f"{self._name}-{self._number}"

    def _claim(self, patient: str) -> Posted:
        """A claim whose notes contain the key, so that a duplicate is found."""
        key = self._key()
        body = {
            "patientId": patient,
            "providerId": self._tenant.provider,
            "diagnosisCode": "E11.9",
            "amount": self._chance.choice([90.5, 999.99, 1000.01, 25_000]),
            "serviceDate": datetime.now(UTC).date().isoformat(),
            "notes": key,
        }
        return Posted("claim", self._tenant.organization, patient, key, body)

    def _event(self, patient: str) -> Posted:
        """The next event of this client's visit of the patient."""
        visit, last = self._visits.get(patient, ("", "over"))
        key = self._key()
        after = {
            "over": ["admission"],
            "admission": ["treatment_initiated", "discharge", "discharge", "admission_cancelled"],
            "treatment_initiated": ["treatment_initiated", "discharge", "discharge"],
            "discharge": ["admission", "admission", "discharge_cancelled"],
            "admission_cancelled": ["admission"],
            "discharge_cancelled": ["admission"],
        }
        kind = self._chance.choice(after[last])
        visit = key if kind == "admission" else visit
        self._visits[patient] = (visit, kind)
        body = {
            "patientId": patient,
            "eventType": kind,
            "occurredAt": datetime.now(UTC).isoformat(),
            "visitNumber": visit,
            "idempotencyKey": key,
        }
        return Posted("event", self._tenant.organization, patient, key, body)

    async def _repeat(self, one: Posted, path: str, times: Times) -> None:
        self._history.posted.append(one)
        headers = {"Idempotency-Key": one.key} if one.kind == "claim" else {}
        while time.monotonic() < times.give_up:
            if await self._ask(one, "POST", path, json=one.body, headers=headers):
                # Now and then as if the response had been lost: the repeated request must get the same id.
                if self._chance.random() < 0.03:
                    await self._ask(one, "POST", path, json=one.body, headers=headers)
                return
            await asyncio.sleep(self._chance.uniform(0.1, 0.6))

    async def _read(self, patient: str) -> None:
        """Reads a result. Existing results must not change."""
        data = await self._ask(None, "GET", f"/api/patient-status/history/{patient}", params={"limit": 20})
        for event in data or []:
            if event["jobStatus"] in ("completed", "failed"):
                self._history.results[event["id"]] = event["jobResult"]

    async def _ask(self, one: Posted | None, method: str, path: str, **more: Any) -> Any:
        """The data of a success, or None. Both are recorded in the history."""
        sent_at, data = time.monotonic(), None
        try:
            answer = await self._http.request(method, path, timeout=ANSWER_WITHIN, **more)
            what: int | str = answer.status_code
            if answer.is_success:
                data = answer.json()["data"]
                self._history.succeeded_at.append(time.monotonic())
            elif answer.status_code not in AGAIN:
                self._history.unexpected[f"{method} {answer.status_code} {answer.text[:200]}"] += 1
        except httpx.TransportError as error:
            what = type(error).__name__
        self._history.answers[str(what)] += 1
        if one:
            one.answers.append(Response(sent_at, time.monotonic(), what, data["id"] if data else None))
        return data


def log_in(address: str, password: str, tenants: list[Tenant]) -> dict[str, str]:
    """An access token for each login, by its address, valid for 15 minutes."""
    tokens = {}
    for login in [login for tenant in tenants for login in tenant.logins]:
        answer = httpx.post(f"{address}/api/auth/login", json={"email": login, "password": password}, timeout=20)
        tokens[login] = answer.raise_for_status().json()["data"]["accessToken"]
    return tokens


async def load(
    address: str, tokens: dict[str, str], tenants: list[Tenant], seed: int, history: History, times: Times
) -> None:
    """Two clients for each login, all at once."""
    async with AsyncExitStack() as stack:
        running = []
        for tenant in tenants:
            for login in tenant.logins:
                headers = {"Authorization": f"Bearer {tokens[login]}"}
                http = await stack.enter_async_context(httpx.AsyncClient(base_url=address, headers=headers))
                for number in (1, 2):
                    client = Client(f"{login.replace('@', '-')}-{number}", seed, tenant, http, history)
                    running.append(client.run(times))
        await asyncio.gather(*running)
