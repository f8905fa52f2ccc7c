"""Every cell of the access matrix over HTTP: each right as its callers have it, and the same row refused to the others."""

import csv
import json
import re
from itertools import product
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from app.config import Settings
from app.main import create_app
from app.security.tokens import secret_hash
from tests.http.access_scenarios import REFRESH_TOKEN, SCENARIOS, USER_OF_ROLE, Access, Scenario, Try
from tests.support.cast import KEYS, ROLE

MATRIX = list(csv.DictReader((Path(__file__).parent / "access-matrix.csv").read_text().splitlines()))


@pytest.fixture
def access(client, as_user, as_root, casts) -> Access:
    """The cast with a failed job that can be retried, and a session that can be refreshed."""
    as_root.execute("update job_processing_logs set status = 'failed', error = 'Error', finished_at = now()")
    as_root.execute(
        "insert into auth.refresh_tokens (organization_id, session_id, token_hash, expires_at) "
        "values (%s, %s, %s, now() + interval '1 day')",
        [casts["north"].organization, casts["north"].ana, secret_hash(REFRESH_TOKEN)],
    )
    return Access(client, as_user, casts)


def path_of(row: dict[str, str], ids: tuple[str, ...]) -> str:
    """The row's path with a name for each of its ids."""
    named = iter(ids)
    return re.sub(r"{\w+}", lambda _: f"{{{next(named)}}}", row["path"])


async def outcome(access: Access, scenario: Scenario, answer: httpx.Response) -> int | set[str]:
    """The outcome, in the form that a Try expects."""
    return await scenario.seen(answer, access) if scenario.seen and answer.is_success else answer.status_code


async def check_refusals(access: Access, row: dict[str, str], first: Try) -> None:
    """403 to a role, 401 without a token: for the row of the first try, for no row at all, and for an empty change."""
    nowhere = re.sub(r"{\w+}", str(uuid4()), row["path"])
    bodies = [first.body, {}] if row["method"] == "PATCH" else [first.body]
    for role in [role for role in USER_OF_ROLE if row[role] == "no"]:
        for path, body in product([path_of(row, first.ids), nowhere], bodies):
            answer = await access.call(USER_OF_ROLE[role], row["method"], path, body)
            assert answer.status_code == (401 if role == "anonymous" else 403), (role, path, body, answer.text)


async def check_isolation(access: Access, row: dict[str, str], scenario: Scenario) -> None:
    """The other tenant's rows in place of the own: only their own admin reaches them."""
    first = scenario.tries[0]
    path = path_of(row, first.ids).replace("{", "{south.")
    body = first.body and json.loads(re.sub(r"{(?=[a-z])", "{south.", json.dumps(first.body)))
    expected = scenario.south if scenario.south is not None else 404 if first.ids else 400
    for role in [role for role in USER_OF_ROLE if row[role] == "organization" and (first.ids or body != first.body)]:
        answer = await access.call(USER_OF_ROLE[role], row["method"], path, body)
        assert await outcome(access, scenario, answer) == expected, (role, answer.text)
    if row["admin"] == "organization":
        control = await access.call("south.alma", row["method"], path, body)
        assert control.is_success, control.text
        assert not isinstance(first.expect, set) or bool(await outcome(access, scenario, control)) == bool(first.expect)


@pytest.mark.parametrize("row", MATRIX, ids=lambda row: row["operation"])
async def test_a_row_of_the_matrix_holds(access, row):
    scenario = SCENARIOS[row["method"], row["path"]]
    await check_refusals(access, row, scenario.tries[0])
    await check_isolation(access, row, scenario)
    for one in scenario.tries:
        answer = await access.call(one.who, row["method"], path_of(row, one.ids) + scenario.query, one.body)
        assert await outcome(access, scenario, answer) == one.expect, (one, answer.text)


def test_every_row_of_the_matrix_has_a_scenario():
    assert set(SCENARIOS) == {(row["method"], row["path"]) for row in MATRIX}
    assert len(SCENARIOS) == len(MATRIX)  # no row is listed twice


def test_the_matrix_names_every_route_and_no_other():
    routes = {
        (method, route.path_format)
        for route in create_app(Settings(token_keys=KEYS)).routes
        for method in route.methods - {"OPTIONS", "HEAD"}
        if route.path != "/" and not route.path.startswith(("/docs", "/openapi.json"))
    }
    assert routes == {(row["method"], row["path"]) for row in MATRIX}


def granted(one: Try) -> bool:
    return bool(one.expect) if isinstance(one.expect, set) else one.expect < 300


@pytest.mark.parametrize("row", MATRIX, ids=lambda row: row["operation"])
def test_every_cell_is_tried_on_both_sides(row):
    tries = SCENARIOS[row["method"], row["path"]].tries
    most = set().union(*(one.expect for one in tries if isinstance(one.expect, set)))
    for role in USER_OF_ROLE:
        cell, made = row[role], [one for one in tries if ROLE.get(one.who, "anonymous") == role]
        refused = [one for one in made if (one.expect < most if isinstance(one.expect, set) else one.expect >= 400)]
        assert any(map(granted, made)) == (cell not in ("no", "-")), role
        # A caller with a right to its own rows must fail with another's. Of itself a caller has only one.
        scoped = cell not in ("no", "-", "yes", "all", "organization") and not row["path"].startswith("/api/auth/")
        assert refused or not scoped, role


@pytest.mark.parametrize("row", MATRIX, ids=lambda row: row["operation"])
def test_every_refusal_has_a_control(row):
    tries = SCENARIOS[row["method"], row["path"]].tries
    assert granted(tries[0])
    for one in tries:
        if isinstance(one.expect, int) and one.expect >= 400 and one.ids:
            assert any(granted(other) and other.ids == one.ids for other in tries), one
