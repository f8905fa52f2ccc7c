"""Cursors: a cursor of another caller, or a changed one, returns no page."""

import base64
from typing import Any

import pytest

from tests.security.attacks.cases import Operation, described, failed_fields, send
from tests.support.clients import As

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
SORTS = ("createdAt", "-serviceDate", "serviceDate", "amount", "-amount")


def lists(operations: list[Operation]) -> list[Operation]:
    return [one for one in operations if "cursor" in one.query]


async def ask(user: As, path: str, **query: Any) -> Any:
    return await user.get(path, params={"limit": 1, **query})


async def cursor_of(user: As, path: str, **query: Any) -> str:
    """The cursor of the second page, which is valid for this caller."""
    given = (await ask(user, path, **query)).json()["meta"]["pagination"]["nextCursor"]
    page = await ask(user, path, **query, cursor=given)
    assert page.status_code == 200
    assert page.json()["data"]  # control
    return given


def is_refused(answer: Any) -> bool:
    return (answer.status_code, failed_fields(answer)) == (400, ["cursor"])


@pytest.fixture
async def filled(client, as_user, as_root, casts) -> list[Operation]:
    """Every list, with two rows at least for each tenant's alma and for north's paul, an admin as well."""
    operations = await described(client)
    as_root.execute("update users set role = 'admin' where name = 'Paul'")
    for tenant, who in casts.items():
        for operation in operations:
            if operation.name in ("POST /api/invitations", "POST /api/patient-status"):
                assert (
                    await send(as_user("alma", tenant), operation, operation.path, operation.bodies(who)[0])
                ).is_success
    return lists(operations)


async def test_an_edited_cursor_is_refused(as_user, filled, cast):
    """Every character is changed once, in every list; in one of them to every other character."""
    alma = as_user("alma")
    for operation in filled:
        path = operation.filled(cast)
        cursor = await cursor_of(alma, path)
        for place, letter in enumerate(cursor):
            other = ALPHABET[ALPHABET.index(letter) ^ 1]  # one bit: the lowest bits of the last character are unused
            answer = await ask(alma, path, cursor=cursor[:place] + other + cursor[place + 1 :])
            assert is_refused(answer), (path, place)
    for letter in set(ALPHABET + "=+/ .\n\0") - {cursor[-1]}:
        assert is_refused(await ask(alma, path, cursor=cursor[:-1] + letter)), letter


async def test_a_truncated_or_extended_cursor_is_refused(as_user, cast):
    alma = as_user("alma")
    cursor = await cursor_of(alma, "/api/claims")
    spoiled = [cursor[:end] for end in range(1, len(cursor))]
    spoiled += [cursor + more for more in ("=", "==", "A", "AAAA", " ", "\n", ".", cursor, "\u0661")]
    spoiled += [more + cursor for more in (" ", "A", "AAAA", "=")] + [cursor.lower(), cursor[::-1], cursor.swapcase()]
    for one in spoiled:
        assert is_refused(await ask(alma, "/api/claims", cursor=one)), one
    assert is_refused(await ask(alma, "/api/claims", cursor="A" * 1001))


async def test_a_forged_cursor_is_refused(as_user, cast):
    """A place without a signature, or with that of another place: a cursor contains no SQL and no date of the caller's."""
    alma = as_user("alma")
    raw = base64.urlsafe_b64decode((await cursor_of(alma, "/api/claims")) + "==")
    places = [
        b"",
        b"[]",
        b"null",
        b"{",
        b'["infinity", "x"]',
        b"['; drop table claims; --]",
        b"\xff\xfe",
        raw[16:-2] + b'0"]',
        raw[17:],
    ]
    for place in places:
        for signature in (b"", b"\0" * 16, raw[:16], raw[1:17]):
            made_up = base64.urlsafe_b64encode(signature + place).decode().rstrip("=")
            assert is_refused(await ask(alma, "/api/claims", cursor=made_up)) or not made_up, (signature, place)


async def test_a_cursor_of_another_caller_is_refused(as_user, filled, casts):
    """For a colleague in the same role, for the other tenant's admin, and in every other list. Its owner may use it twice."""
    north = casts["north"]
    users = [("alma", "north"), ("paul", "north"), ("alma", "south")]
    cursors = {}
    for operation in filled:
        for who, tenant in users:
            cursors[operation.path, who, tenant] = await cursor_of(
                as_user(who, tenant), operation.filled(casts[tenant])
            )
    for (path, who, tenant), cursor in cursors.items():
        for operation in filled:
            for asking, where in users:
                answer = await ask(as_user(asking, where), operation.filled(casts[where]), cursor=cursor)
                if (operation.path, asking, where) == (path, who, tenant):
                    assert answer.status_code == 200, path  # control
                else:
                    assert is_refused(answer), (path, who, tenant, operation.path, asking, where)
    history, tinas = "/api/patient-status/history/{patientId}", f"/api/patient-status/history/{north.tina_patient}"
    assert is_refused(await ask(as_user("alma"), tinas, cursor=cursors[history, "alma", "north"]))


async def test_a_cursor_is_valid_for_its_filters_and_its_order_alone(as_user, filled, cast):
    """With a filter added, removed or changed it is another list."""
    alma = as_user("alma")
    for operation in filled:
        path = operation.filled(cast)
        cursor = await cursor_of(alma, path)
        filters = {name: value for name, value in FILTERS.items() if name in operation.query}
        filters |= {"status": "paid"} if path == "/api/claims" else {}
        assert (
            filters.keys() | {"limit", "offset", "cursor", "patientId", "providerId", "sort"} >= operation.query.keys()
        ), path
        for name, value in filters.items():
            assert is_refused(await ask(alma, path, **{name: value}, cursor=cursor)), (path, name)
    for sort in SORTS:
        sorted_ = await cursor_of(alma, "/api/claims", sort=sort)
        for other in {*SORTS, "-createdAt"} - {sort}:
            assert is_refused(await ask(alma, "/api/claims", sort=other, cursor=sorted_)), (sort, other)
    with_status = await cursor_of(alma, "/api/claims", status="submitted")
    for changed in ({}, {"status": "paid"}, {"status": "submitted,paid"}, {"status": "submitted", "amountMin": 1}):
        assert is_refused(await ask(alma, "/api/claims", **changed, cursor=with_status)), changed
    for id_ in (cast.tom_patient, cast.tina_patient):
        assert is_refused(await ask(alma, "/api/claims", patientId=str(id_), cursor=with_status))
    larger = await ask(alma, "/api/claims", status="submitted", limit=50, cursor=with_status)
    assert larger.status_code == 200  # the limit is not a filter


FILTERS = {
    "status": "pending", "jobType": "patient_admission", "search": "fever", "actorUserId": "01890000-0000-7000-8000-000000000000",
    "action": "create", "entity": "claims", "entityId": "01890000-0000-7000-8000-000000000000", "atFrom": "2020-01-01T00:00:00Z",
    "atTo": "2099-01-01T00:00:00Z", "assignedTo": "me", "serviceDateFrom": "2020-01-01", "serviceDateTo": "2099-01-01",
    "amountMin": 1, "amountMax": 9, "diagnosisCode": "E11.9", "createdFrom": "2020-01-01T00:00:00Z",
    "createdTo": "2099-01-01T00:00:00Z", "claimNumber": "C",
}  # fmt: skip
"""A value for every filter of every list."""


async def test_a_cursor_ends_with_the_role_and_the_session(as_user, as_root, cast):
    """It is valid while the caller's role and session are."""
    alma = as_user("alma")
    cursor = await cursor_of(alma, "/api/users")
    as_root.execute("update users set role = 'admin' where user_id = %s", [cast.pia])
    as_root.execute("update users set role = 'claims_processor' where user_id = %s", [cast.alma])
    assert (await ask(alma, "/api/users", cursor=cursor)).status_code == 403
    as_root.execute("update auth.sessions set ended_at = now() where user_id = %s", [cast.alma])
    assert (await ask(alma, "/api/users", cursor=cursor)).status_code == 401
