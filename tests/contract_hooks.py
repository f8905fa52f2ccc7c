"""What schemathesis can't know of a schema alone: which ids are real, which words are timezones, whose token a logout may spend.

Loaded by the SCHEMATHESIS_HOOKS variable; tests/test_contract.py puts the facts into CONTRACT_FACTS. Only data that is meant to be
accepted is touched: what is generated to be refused goes out as it is.
"""

import json
import os
from typing import Any
from uuid import uuid4

import requests
import schemathesis
from schemathesis import GenerationMode

FACTS: dict[str, str] = json.loads(os.environ["CONTRACT_FACTS"])
"""Ids by the name of the field that takes them; `email`, `password` and `npis`."""
REFERENCES = ("patientId", "providerId", "userId", "toUserId")


def _is_positive(case: Any) -> bool:
    return case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE


@schemathesis.serializer("application/x-ndjson")
def ndjson(_: Any, value: Any) -> bytes:
    """A line of an import: what was generated is text already."""
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.hook
def before_call(_: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Real references for what should be accepted, and a session of its own for what ends one."""
    if (
        case.operation.path in ("/api/auth/logout", "/api/auth/password")
        and case.headers
        and "Authorization" in case.headers
    ):
        case.headers["Authorization"] = f"Bearer {_log_in(case.operation.base_url)}"
    if not _is_positive(case):
        return
    if case.headers and "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = str(uuid4())  # or another example's body makes it a 422
    if case.headers and "If-Match" in case.headers:
        case.headers["If-Match"] = "*"
    if case.query:
        case.query.pop("cursor", None)  # only this API can make one
    if isinstance(case.body, dict):
        _fill(case.body)


def _fill(body: dict[str, Any]) -> None:
    """What refers to something refers to something that is there."""
    for name in REFERENCES:
        if body.get(name):
            body[name] = FACTS[name]
    if "diagnosisCode" in body:
        body["diagnosisCode"] = "E11.9"
    for name in ("serviceDate", "dateOfBirth"):
        if name in body:
            body[name] = "2026-01-15"
    if "occurredAt" in body:
        body["occurredAt"] = "2026-01-15T09:30:00Z"
    if isinstance(body.get("settings"), dict) and "timezone" in body["settings"]:
        body["settings"]["timezone"] = "Europe/Vienna"
    if "npi" in body:
        body["npi"] = "1245319599"


def _log_in(base_url: str) -> str:
    answer = requests.post(
        f"{base_url}/api/auth/login", json={"email": FACTS["email"], "password": FACTS["password"]}, timeout=10
    )
    token: str = answer.json()["data"]["accessToken"]
    return token
