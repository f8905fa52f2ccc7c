"""The form of imports and exports: byte order marks, blank lines, the limit of lines, errors of lines, and file names."""

import json
import re

import pytest

from app.errors import Unauthorized
from app.http import ndjson
from app.resources.claims import transfer
from tests.http.test_import_export import NDJSON, line
from tests.support.clients import OtherRequests
from tests.support.responses import problem

BOM = b"\xef\xbb\xbf"


async def send(user, content, **headers):
    return await user("POST", "/api/claims/import", content=content, headers=NDJSON | headers)


def results(answer):
    assert answer.status_code == 200, answer.text
    return [json.loads(one) for one in answer.text.splitlines()]


def numbered(cast, *numbers):
    return [line(cast, claimNumber=number).encode() for number in numbers]


@pytest.mark.parametrize(("form", "expected"), [
    (b"%s\n%s", [1, 2]),
    (b"%s\n%s\n", [1, 2]),
    (b"%s\r\n%s\r\n", [1, 2]),
    (b"%s\n\n%s\n\n\n", [1, 3]),
    (b"\n%s\n%s", [2, 3]),
    (b"\r\n\r\n%s\r\n\r\n%s\r\n", [3, 5]),
    (b" \t \n%s\n\t\n   \n%s\n  ", [2, 5]),
    (BOM + b"%s\n%s\n", [1, 2]),
    (BOM + b"\n%s\n%s", [2, 3]),
    (BOM + b"  %s  \n\t%s", [1, 2]),
])  # fmt: skip
async def test_blank_lines_are_skipped_and_numbers_are_those_of_the_file(as_user, cast, form, expected):
    answer = results(await send(as_user("alma"), form % tuple(numbered(cast, "L-1", "L-2"))))
    assert [(one["line"], one["result"]) for one in answer] == [(number, "created") for number in expected]


async def test_only_the_first_mark_is_dropped(as_user, cast):
    one, two = numbered(cast, "L-1", "L-2")
    twice = results(await send(as_user("alma"), BOM + BOM + one + b"\n" + two))
    assert [one["result"] for one in twice] == ["failed", "created"]
    later = results(await send(as_user("alma"), one + b"\n" + BOM + two))
    assert [one["result"] for one in later] == ["created", "failed"]
    assert later[1]["error"]["details"] == {"fields": {"body": ["Is not well-formed JSON"]}}


async def test_a_mark_may_arrive_in_parts(as_user, cast):
    async def bytewise():
        for byte in BOM + numbered(cast, "L-1")[0]:
            yield bytes([byte])

    assert [one["result"] for one in results(await send(as_user("alma"), bytewise()))] == ["created"]


@pytest.mark.parametrize("content", [b"", BOM, b"\n", b"\r\n \t\r\n", BOM + b"\n\n", b" " * 70_000])
async def test_an_import_without_lines_is_refused(as_user, content):
    answer = await send(as_user("alma"), content)
    assert problem(answer) == (400, ["body"])
    assert answer.json()["error"]["details"]["fields"]["body"] == ["Must contain at least one line"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
async def test_an_import_in_another_encoding_is_refused_as_a_whole(as_user, as_root, cast, encoding):
    before = as_root.execute("select count(*) from claims").fetchone()
    answer = await send(as_user("alma"), line(cast).encode(encoding))
    assert (answer.status_code, answer.json()["error"]["details"]["fields"]) == (400, {"body": ["Must be UTF-8"]})
    assert as_root.execute("select count(*) from claims").fetchone() == before


async def test_blanks_before_a_long_line_hide_no_claim(as_user, cast):
    # The line is cut after its first 16 KiB, which are blank.
    answer = results(
        await send(as_user("alma"), b" " * 20_000 + numbered(cast, "L-1")[0] + b"\n" + numbered(cast, "L-2")[0])
    )
    assert [(one["line"], one["result"]) for one in answer] == [(1, "failed"), (2, "created")]
    assert answer[0]["error"]["code"] == "PAYLOAD_TOO_LARGE"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64])
def test_the_count_of_lines_does_not_depend_on_the_parts(size):
    body = b"a\n\n b \r\n\t\n\nc d\n  \ne"
    counter = ndjson.LineCounter()
    for start in range(0, len(body), size):
        counter.add(body[start : start + size])
    assert (counter.lines, counter.line_breaks) == (4, 7)


async def test_the_limit_counts_lines_with_content(as_user, monkeypatch, cast):
    monkeypatch.setattr(ndjson, "MAX_LINES", 3)
    monkeypatch.setattr(ndjson, "MAX_LINE_BREAKS", 20)
    lines = numbered(cast, "L-1", "L-2", "L-3")
    assert len(results(await send(as_user("alma"), b"\n\n" + b"\n\n".join(lines) + b"\n\n"))) == 3
    for more in (b"\n".join([*lines, b"x"]), b"\n".join([*lines, b"", b"x", b""])):
        answer = await send(as_user("alma"), more)
        assert (problem(answer), answer.json()["error"]["message"]) == (
            (413, ["body"]),
            "The import has more lines than are accepted. See details.fields.",
        )
    answer = await send(as_user("alma"), lines[0] + b"\n" * 21)
    assert problem(answer) == (413, ["body"])


async def test_other_requests_run_while_blank_lines_are_read(as_user, cast, monkeypatch):
    content = [numbered(cast, "L-1")[0], b"\n" * (ndjson.MAX_LINE_BREAKS - 10), numbered(cast, "L-2")[0]]
    original, turns_at_batches = ndjson.Lines.batches, []
    async with OtherRequests() as others:

        def counted(self):
            for batch in original(self):
                turns_at_batches.append(others.turns)
                yield batch

        monkeypatch.setattr(ndjson.Lines, "batches", counted)
        answer = results(await send(as_user("alma"), b"".join(content)))
    assert [one["result"] for one in answer] == ["created", "created"]
    assert answer[1]["line"] == ndjson.MAX_LINE_BREAKS - 9
    assert len(set(turns_at_batches)) >= (ndjson.MAX_LINE_BREAKS - 10) // ndjson.MAX_BLANK_LINES_PER_BATCH


async def test_the_error_of_a_line_has_the_shape_of_all_errors(as_user, cast):
    """code, message and details.fields as in the envelope; fields is the same list, for clients of the contract's first form."""
    number = numbered(cast, "L-1")[0]
    content = [
        number, line(cast, claimNumber="L-1", amount=99).encode(), line(cast, amount=0).encode(), b"no json",
        line(cast, patientId=str(cast.organization)).encode(), line(cast, notes="x" * 20_000).encode(),
    ]  # fmt: skip
    for one in results(await send(as_user("alma"), b"\n".join(content)))[1:]:
        error = one["error"]
        assert sorted(error) == ["code", "details", "fields", "message"], error
        assert error["details"] == {"fields": error["fields"]}
        assert error["fields"], error
    alone = (await as_user("alma").post("/api/claims", json.loads(line(cast, amount=0)))).json()["error"]
    imported = results(await send(as_user("alma"), line(cast, amount=0).encode()))[0]["error"]
    imported.pop("fields")
    assert imported == alone
    refused = results(await send(as_user("ana"), line(cast, providerId=str(cast.ben_provider)).encode()))[0]["error"]
    assert (refused["code"], refused["fields"], "details" in refused) == ("FORBIDDEN", {}, False)


async def test_an_import_refused_in_the_middle_has_a_result_for_every_line(as_user, cast, monkeypatch):
    """The session ends between two batches: the lines before it stand, and each later one has the error."""
    monkeypatch.setattr(ndjson, "BATCH_SIZE", 2)
    calls = []

    async def import_rows(db, statement, lines):
        calls.append(len(lines))
        if len(calls) > 1:
            raise Unauthorized
        return await real(db, statement, lines)

    real = transfer.Responder.import_rows
    monkeypatch.setattr(transfer.Responder, "import_rows", import_rows)
    lines = numbered(cast, "L-1", "L-2", "L-3", "L-4", "L-5")
    answer = results(await send(as_user("alma"), b"\n".join(lines)))
    assert [(one["line"], one["result"]) for one in answer] == [
        (1, "created"), (2, "created"), (3, "failed"), (4, "failed"), (5, "failed"),
    ]  # fmt: skip
    assert {one["error"]["code"] for one in answer[2:]} == {"UNAUTHORIZED"}


async def test_an_import_refused_at_once_has_its_status(as_user, cast, monkeypatch):
    async def import_rows(*_):
        raise Unauthorized

    monkeypatch.setattr(transfer.Responder, "import_rows", import_rows)
    assert (await send(as_user("alma"), numbered(cast, "L-1")[0])).status_code == 401


@pytest.mark.parametrize(("accept", "media_type", "extension"), [
    ("text/csv", "text/csv", "csv"), ("application/x-ndjson", "application/x-ndjson", "ndjson"),
])  # fmt: skip
async def test_an_export_is_a_file_with_a_name(as_user, as_root, accept, media_type, extension):
    as_root.execute("update organizations set timezone = 'Pacific/Kiritimati'")  # UTC+14
    day = as_root.execute("select (now() at time zone 'Pacific/Kiritimati')::date::text").fetchone()[0]
    answer = await as_user("alma")("GET", "/api/claims/export", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers.get_list("Content-Disposition") == [f'attachment; filename="claims-{day}.{extension}"']
    (content_type,) = answer.headers.get_list("Content-Type")
    assert content_type.split(";")[0] == media_type
    assert len(re.findall("charset=", content_type)) == (extension == "csv")
    assert ("charset=utf-8" in content_type) == (extension == "csv")


@pytest.mark.parametrize(
    "path", ["/docs", "/docs/start.js", "/docs/static/swagger-ui.css", "/docs/static/swagger-ui-bundle.js"]
)
async def test_a_text_has_one_charset(client, path):
    assert (await client.get(path)).headers["Content-Type"].count("charset=") == 1
