"""Facts for schemathesis that no schema contains: real ids, whole cents, valid timezones, and tokens of sessions that may end.

Loaded by the SCHEMATHESIS_HOOKS variable; tests/http/test_contract.py writes the facts into CONTRACT_FACTS. Only data that should
be accepted is changed; generated invalid data is sent as it is.
"""

import json
import os
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import schemathesis
from schemathesis import GenerationMode

FACTS: dict[str, str] = json.loads(os.environ["CONTRACT_FACTS"])
"""Ids by the name of the field that accepts them."""
SPARE = iter(Path(os.environ["CONTRACT_SPARE"]).read_text().split())
"""Tokens of sessions that may end."""
AMOUNTS = ("amount", "approvedAmount", "amountMin", "amountMax", "claimAmountLimit", "autoApproveLimit")
SPACES = re.compile(r"[\u1680\u2000-\u200f\u2028-\u202f\u205f\u3000\ufeff]")
"""White space that an email may not contain and that the document's pattern allows."""
REFERENCES = ("patientId", "providerId", "userId", "toUserId")


def _is_positive(case: Any) -> bool:
    return case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE


def _lines(value: Any) -> bytes:
    """The lines of an import. Generated data is bytes or text already."""
    if isinstance(data := getattr(value, "data", value), bytes):
        return data
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.serializer("application/x-ndjson", "application/ndjson", "application/jsonl")
def ndjson(_: Any, value: Any) -> bytes:
    """The body of an import."""
    return _lines(value)


@schemathesis.auth(refresh_interval=None)
class Bearer:
    """The role's token. A call that ends a session gets a token of a session of its own, or every later call would be 401."""

    def get(self, _case: Any, _context: Any) -> str:
        return os.environ["CONTRACT_TOKEN"]

    def set(self, case: Any, data: str, _context: Any) -> None:
        ends = case.operation.path in ("/api/auth/logout", "/api/auth/password")
        case.headers = case.headers or {}
        case.headers["Authorization"] = f"Bearer {next(SPARE) if ends else data}"


@schemathesis.hook
def before_call(_: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Real references for what should be accepted."""
    if not _is_positive(case):
        if isinstance(case.body, dict):
            _replace_empty(case.body)
        return
    for name, value in (case.path_parameters or {}).items():
        if value in (None, "None"):
            case.path_parameters[name] = str(uuid4())  # a link was drawn from a field that is null
    if case.headers and "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = str(uuid4())  # or another example's body causes a 422
    if case.headers and "If-Match" in case.headers:
        del case.headers["If-Match"]  # no generated version is the right one
    if case.operation.path == "/api/claims/import" and not _lines(case.body):
        case.body = "{}"  # generated binary data ignores minLength
    if case.query:
        case.query.pop("cursor", None)  # only this API can create one
        case.query.update({name: _cents(value) for name, value in case.query.items() if name in AMOUNTS})
    if isinstance(case.body, dict):
        _fill(case.body)


def _replace_empty(body: dict[str, Any]) -> None:
    """Replaces empty strings, which mean "not given" for optional fields, by another invalid text: the document states no such rule."""
    body.update({name: "\0" for name, value in body.items() if value == ""})


def _cents(value: Any) -> Any:
    """An amount in whole cents. The schema has no rule for decimals, because validators calculate in binary."""
    return round(value, 2) if isinstance(value, int | float) else value


def _fill(body: dict[str, Any]) -> None:
    """Replaces references by references to existing rows."""
    for name in REFERENCES:
        if body.get(name):
            body[name] = FACTS[name]
    for part in (body, body.get("settings")):
        if isinstance(part, dict):
            part.update({name: _cents(value) for name, value in part.items() if name in AMOUNTS})
    if isinstance(body.get("email"), str):
        body["email"] = SPACES.sub("x", body["email"])
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
