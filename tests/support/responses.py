"""Responses of the API: errors, and the pages of a list."""

from typing import Any

import httpx

from tests.support.clients import As


def problem(answer: httpx.Response) -> tuple[int, list[str]]:
    """The status and the fields in an error."""
    return answer.status_code, sorted(answer.json()["error"].get("details", {}).get("fields", {}))


async def walk(user: As, path: str) -> list[dict[str, Any]]:
    """Every page of a list by cursor, and the same by offset. Both must contain every row once, in one order."""
    by_cursor: list[dict[str, Any]] = []
    by_offset: list[dict[str, Any]] = []
    cursor, total = "", 1
    while cursor is not None:
        page = (await user.get(path + (cursor and f"&cursor={cursor}"))).json()
        by_cursor, cursor = by_cursor + page["data"], page["meta"]["pagination"]["nextCursor"]
    while len(by_offset) < total:
        page = (await user.get(f"{path}&offset={len(by_offset)}")).json()
        assert page["data"], "a page is empty before the end"
        by_offset, total = by_offset + page["data"], page["meta"]["pagination"]["total"]
    assert by_offset == by_cursor
    return by_cursor
