"""Oversized input: bodies that are too deep, too long or no text, extreme numbers and dates.

400 or 413, and nothing is stored.
"""

import json
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from app.http import ndjson
from app.http.spool import Disk, Spool
from tests.security.attacks.cases import Operation, claim, described, failed_fields, send, stored, types

NUMBERS = ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "-0", "-0.0", "1e-10", "-1", "0.001", "9" * 400, "1" + "0" * 5000,
           "9007199254740993", "9223372036854775808", "1e308", "0x10", "1_000", "01", "1.", ".5", "+1", "true", '"1"', "[1]"]  # fmt: skip
NO_TEXTS = [rb"\u0000", rb"a\u0000b", rb"\ud800", rb"\udc00\ud800", rb"a\udfff", rb"\x", b"\n", b"\0", b'"', b"\xff", b"a\xed\xa0\x80",
            b"\xc0\x80", b"\xf5\x80\x80\x80", b"\x1f"]  # fmt: skip
DAYS = ["0000-01-01", "0001-01-01", "9999-12-31", "10000-01-01", "-0001-01-01", "2026-02-30", "2026-13-01", "2026-1-1", "20260101",
        "2026-01-01T00:00:00Z", "+002026-01-01", "now", "today", "infinity", "-infinity", "epoch", "2026-W01-1", "1"]  # fmt: skip
INSTANTS = ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00-23:59", "9999-12-31T23:59:59.999999Z",
            "9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59+23:59", "0000-01-01T00:00:00Z", "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+99:99", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00",
            "2026-01-01", "0", "-1", "1e10", "253402300800", "99999999999999999999", "nan", "infinity", "now", "epoch"]  # fmt: skip


def takes(schema: Any, *kinds: str) -> bool:
    """Whether a position accepts one of these types or formats."""
    return not {*types(schema), schema.get("format")}.isdisjoint(kinds)


def written(operation: Operation, who: Any, field: str, token: str) -> bytes:
    """A valid body with these characters as the field's value."""
    outer, _, inner = field.partition(".")
    rest = {name: value for name, value in operation.bodies(who)[0].items() if name != outer}
    text = f'{{"{inner}": {token}}}' if inner else token
    return f'{{"{outer}": {text}, {json.dumps(rest)[1:]}'.replace(", }", "}").encode()


async def test_a_body_that_is_too_deep_is_refused(client, as_user, as_root, cast):
    """Ten thousand levels, in every place where a parser would recurse: the body, a field, an ignored field."""
    before = stored(as_root)
    deep = ["[" * 10_000 + "]" * 10_000, '{"a":' * 10_000 + "1" + "}" * 10_000, "[" * 100_000, '[{"a":' * 20_000]
    for operation in filter(lambda one: one.fields, await described(client)):
        for one in deep:
            for body in (
                one.encode(),
                *(
                    written(operation, cast, name, one)
                    for name in ("organizationId", "surprise", next(iter(operation.fields)))
                ),
            ):
                answer = await send(as_user("alma"), operation, operation.filled(cast), body)
                assert answer.status_code == (200 if operation.lines else 400), (operation.name, answer.text)
                assert operation.lines or failed_fields(answer) == ["body"], (operation.name, answer.text)
    assert stored(as_root) == before
    shallow = written(operation, cast, "organizationId", "[" * 300 + "]" * 300)
    assert (await send(as_user("alma"), operation, operation.filled(cast), shallow)).status_code < 300  # control


async def test_a_body_that_is_too_long_is_refused_unread(client, as_user, as_root, cast):
    before, long = stored(as_root), b'{"notes": "' + b"x" * 10_000_000 + b'"}'

    async def unannounced() -> AsyncIterator[bytes]:
        for start in range(0, len(long), 100_000):
            yield long[start : start + 100_000]

    for operation in filter(lambda one: one.fields, await described(client)):
        for body in (long, unannounced()):
            kind = {"Content-Type": "application/x-ndjson" if operation.lines else "application/json"}
            answer = await as_user("alma")(operation.method, operation.filled(cast), content=body, headers=kind)
            assert answer.status_code == (200 if operation.lines else 413), operation.name
            assert b"PAYLOAD_TOO_LARGE" in answer.content, operation.name
    assert stored(as_root) == before


async def test_a_long_line_of_an_import_is_not_kept_in_memory():
    """The line after it is still imported."""

    async def body() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 1_000_000
        yield b"\n{}\n"

    tracemalloc.start()
    spool = Spool(Disk(2**30), uuid4())
    lines = await ndjson.receive(body(), spool)
    (batch,) = lines.batches()
    spool.close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [number for number, _ in batch] == [1, 2]
    assert len(batch[0][1]) > ndjson.MAX_LINE_BYTES
    assert batch[1][1] == b"{}\n"
    assert peak < 8_000_000


async def test_invalid_text_is_refused(client, as_user, as_root, cast):
    """NUL, half a surrogate pair, bytes that are no UTF-8, a string without end."""
    before = stored(as_root)
    for operation in await described(client):
        for field in (name for name, schema in operation.fields.items() if takes(schema, "string")):
            for text in NO_TEXTS:
                body = written(operation, cast, field, '"TEXT"').replace(b"TEXT", text)
                answer = await send(as_user("alma"), operation, operation.filled(cast), body)
                assert answer.status_code == (200 if operation.lines else 400), (
                    operation.name,
                    field,
                    text,
                    answer.text,
                )
                assert failed_fields(answer) in ([field], ["body"]), (operation.name, field, text, answer.text)
    assert stored(as_root) == before


async def test_an_invalid_number_causes_no_server_error(client, as_user, cast):
    tried = 0
    for operation in await described(client):
        for field in (name for name, schema in operation.fields.items() if takes(schema, "number", "integer")):
            for token in NUMBERS:
                answer = await send(
                    as_user("alma"), operation, operation.filled(cast), written(operation, cast, field, token)
                )
                assert answer.status_code in (200, 201, 400, 409), (operation.name, field, token[:20], answer.text)
                assert answer.status_code != 400 or failed_fields(answer), (operation.name, field, token[:20])
                tried += 1
        for name in (name for name, schema in operation.query.items() if takes(schema, "number", "integer")):
            for token in NUMBERS:
                answer = await as_user("alma").get(operation.filled(cast), params={name: token})
                assert answer.status_code in (200, 400), (operation.name, name, token[:20], answer.text)
                tried += 1
    assert tried > 600
    stated = await as_user("alma").post("/api/claims", claim(cast) | {"amount": 1e-10})
    assert failed_fields(stated) == ["amount"]


async def test_an_extreme_date_causes_no_server_error(client, as_user, as_root, cast):
    """Nor a time whose offset leads out of the calendar, nor one that is a number."""
    for operation in await described(client):
        for kind, tokens in (("date", DAYS), ("date-time", INSTANTS)):
            for field in (name for name, schema in operation.fields.items() if takes(schema, kind)):
                for token in tokens:
                    body = written(operation, cast, field, json.dumps(token))
                    answer = await send(as_user("alma"), operation, operation.filled(cast), body)
                    expected = (200 if operation.lines else 400, [field])
                    assert (answer.status_code, failed_fields(answer)) == expected, (operation.name, token, answer.text)
            for name in (name for name, schema in operation.query.items() if takes(schema, kind)):
                for token in tokens:
                    answer = await as_user("alma").get(operation.filled(cast), params={name: token})
                    assert answer.status_code in (200, 400), (operation.name, name, token, answer.text)
                    bare = kind == "date-time" and ":" not in token
                    assert failed_fields(answer) == [name] or not bare, (operation.name, name, token)
    for table, column in (
        ("claims", "service_date"),
        ("patients", "date_of_birth"),
        ("patient_status_events", "occurred_at"),
    ):
        odd = f"select count(*) from {table} where {column}::date not between '1875-01-01' and current_date"
        assert as_root.execute(odd).fetchone() == (0,)
