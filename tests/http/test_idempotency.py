"""Idempotency keys: a POST that is sent again has one effect and one response, whatever happened in between."""

import json

import pytest

from tests.resources.test_auth import call, is_in, refresh, seed_login
from tests.security.attacks.cases import described, event, npi, patient, send, stored
from tests.support.cast import PASSWORD

IMPORT = "/api/claims/import"
AGED = "update idempotency_keys set created_at = created_at - %s::interval where key = 'k'"
SAME = ("Location", "ETag", "Content-Type", "Content-Length")


def keyed(key: str | bytes = "k") -> dict[str, str | bytes]:
    return {"Idempotency-Key": key}


@pytest.fixture
async def operations(client, as_root):
    """Every POST with a documented key, except the import. Each could have its effect twice."""
    as_root.execute("update claims set assigned_to = null where claim_number = 'C-ANA'")
    as_root.execute("update job_processing_logs set status = 'failed'")
    found = {one.path: one for one in await described(client) if one.keyed}
    assert {"/api/claims", "/api/claims/next", "/api/patient-status"} <= set(found)
    return [(one, "pia" if one.path == "/api/claims/next" else "alma") for one in found.values()]


async def provide(user, key: str | bytes, **more):
    """Creates a provider with a key."""
    return await user("POST", "/api/providers", json={"npi": "1679576722", "name": "Cara"} | more, headers=keyed(key))


def is_replay(answer) -> bool:
    return answer.headers.get("Idempotent-Replayed") == "true"


def counted(as_root, table: str) -> int:
    return as_root.execute(f"select count(*) from {table}").fetchone()[0]


def everything(as_root) -> object:
    """Rows in which any effect would show, queue and audit log included. A recorded denial is no effect."""
    return stored(as_root), [
        counted(as_root, table) for table in ("procrastinate.procrastinate_jobs", "audit_logs where action <> 'denied'")
    ]


def assert_names_the_key(answer, what) -> None:
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "VALIDATION_ERROR"), (what, answer.text)
    assert list(answer.json()["error"]["details"]["fields"]) == ["Idempotency-Key"], what


async def test_a_key_sent_again_returns_the_first_response_and_has_no_second_effect(operations, as_user, as_root, cast):
    for operation, who in operations:
        user, path, body = as_user(who), operation.filled(cast), operation.bodies(cast)[0]
        before = everything(as_root)
        first = await send(user, operation, path, body, headers=keyed())
        assert first.is_success, (operation.name, first.text)
        after = everything(as_root)
        assert after != before  # control: it has an effect
        assert "Idempotent-Replayed" not in first.headers
        again = await send(user, operation, path, body, headers=keyed())
        assert (again.status_code, again.content) == (first.status_code, first.content), operation.name
        assert is_replay(again), operation.name
        assert [again.headers.get(name) for name in SAME] == [first.headers.get(name) for name in SAME], operation.name
        assert again.headers["X-Request-Id"] != first.headers["X-Request-Id"]
        assert (first.status_code == 201) == ("Location" in first.headers)
        changed = await send(user, operation, path, json.dumps(body).encode() + b" ", headers=keyed())
        assert (changed.status_code, changed.json()["error"]["code"]) == (422, "IDEMPOTENCY_MISMATCH"), operation.name
        assert everything(as_root) == after, operation.name
        other = await send(user, operation, path, body, headers=keyed("other"))
        assert not is_replay(other)  # control: another key is another request


async def test_an_empty_response_is_stored_too(as_user, as_root, cast):
    paul, path = as_user("paul"), "/api/claims/next"
    as_root.execute("update claims set assigned_to = %s where organization_id = %s", [cast.pia, cast.organization])
    first = await paul("POST", path, headers=keyed())
    as_root.execute("update claims set assigned_to = null")
    again = await paul("POST", path, headers=keyed())
    assert [(one.status_code, one.content) for one in (first, again)] == [(204, b"")] * 2
    assert [is_replay(one) for one in (first, again)] == [False, True]
    assert (await paul("POST", path, headers=keyed("other"))).status_code == 200  # control


async def test_a_refusal_is_not_stored(as_user, as_root, cast):
    alma, taken = as_user("alma"), {"npi": "1234567893"}
    before = everything(as_root)
    for answer, status in [
        (await provide(alma, "k", **taken), 409), (await provide(alma, "k", npi="1"), 400),
        (await provide(as_user("ana"), "k"), 403),
        (await alma("POST", f"/api/users/{cast.organization}/reassign-claims", json={"toUserId": None}, headers=keyed()), 404),
        (await alma("POST", f"/api/jobs/{cast.toms_job}/retry", headers=keyed()), 409),
    ]:  # fmt: skip
        assert (answer.status_code, is_replay(answer)) == (status, False), answer.text
    assert everything(as_root) == before  # neither an effect nor a key
    as_root.execute("update providers set npi = '1679576722' where npi = '1234567893'")
    mended = await provide(alma, "k", **taken)
    assert (mended.status_code, is_replay(mended)) == (201, False)
    as_root.execute("update job_processing_logs set status = 'failed'")
    assert (await alma("POST", f"/api/jobs/{cast.toms_job}/retry", headers=keyed())).status_code == 202


async def test_an_event_with_a_conflict_leaves_no_key(as_user, as_root, cast):
    ana = as_user("ana")
    body = event(cast)
    made = await ana("POST", "/api/patient-status", json=body, headers=keyed())
    known = await ana("POST", "/api/patient-status", json=body, headers=keyed("other"))
    assert (made.status_code, known.status_code, is_replay(known)) == (202, 200, False)
    clash = await ana("POST", "/api/patient-status", json=body | {"notes": "other"}, headers=keyed("third"))
    assert clash.status_code == 422
    assert counted(as_root, "idempotency_keys where key = 'third'") == 0
    replayed = [await ana("POST", "/api/patient-status", json=body, headers=keyed(key)) for key in ("k", "other")]
    assert [(one.status_code, is_replay(one)) for one in replayed] == [(202, True), (200, True)]


async def test_a_key_is_valid_for_its_user_and_its_path_alone(as_user, as_root, cast):
    as_root.execute("update users set role = 'admin' where user_id = %s", [cast.paul])
    for who, tenant in [("alma", "north"), ("alma", "south"), ("paul", "north")]:
        new = {"npi": npi(), "name": f"{who} of {tenant}"}
        for replay in (False, True):
            answer = await provide(as_user(who, tenant), "k", **new)
            assert (answer.status_code, is_replay(answer)) == (201, replay), (who, tenant)
            assert answer.json()["data"]["name"] == f"{who} of {tenant}"
    elsewhere = await as_user("alma")("POST", "/api/patients", json=patient(), headers=keyed())
    assert (elsewhere.status_code, is_replay(elsewhere)) == (201, False)
    for whose in (cast.pia, cast.paul):  # the same handler and body, another user in the path
        path = f"/api/users/{whose}/reassign-claims"
        moved = await as_user("alma")("POST", path, json={"toUserId": None}, headers=keyed())
        assert (moved.status_code, is_replay(moved)) == (200, False), path


async def test_a_key_is_kept_for_a_day(as_user, as_root, cast):
    alma = as_user("alma")
    as_root.execute(  # more expired keys than one request deletes
        "insert into idempotency_keys (organization_id, user_id, path, key, body_hash, created_at) "
        "select %s, %s, '/', n::text, '', now() - interval '3 days' from generate_series(1, 100) n",
        [cast.organization, cast.pia],
    )
    first = await provide(alma, "k")
    as_root.execute(AGED, ["23 hours 59 minutes"])
    assert (await provide(alma, "k")).content == first.content
    assert (await provide(alma, "k", name="Other")).status_code == 422  # control
    as_root.execute(AGED, ["2 minutes"])
    second = await provide(alma, "k", npi=npi())
    assert (second.status_code, is_replay(second)) == (201, False)
    assert (await provide(alma, "k")).status_code == 422  # the key is now the second request's
    # Requests delete expired keys, some at a time.
    assert 0 < counted(as_root, "idempotency_keys where path = '/'") < 100


async def test_a_malformed_key_is_named(operations, as_user, as_root, cast):
    before = everything(as_root)
    bad = [b"", b"a b", b"a\tb", b"\xc3\xa4", b"\x7f", b"x" * 256]
    for operation, who in operations:
        path, body = operation.filled(cast), operation.bodies(cast)[0]
        for key in bad:
            assert_names_the_key(
                await send(as_user(who), operation, path, body, headers=keyed(key)), (operation.name, key)
            )
    double = [*as_user("alma")._headers.items(), ("Idempotency-Key", "k"), ("Idempotency-Key", "k")]
    for path in ("/api/providers", IMPORT):
        assert_names_the_key(await as_user("alma")._client.post(path, headers=double, content=b"{}"), path)
    assert everything(as_root) == before
    for key in (b"!~" + b"x" * 253, b"1"):  # controls
        assert (await provide(as_user("alma"), key, npi=npi())).status_code == 201


async def test_no_key_is_accepted_where_the_response_contains_a_secret(client, as_user, as_root, cast):
    tokens = seed_login(as_root, cast, "ana")
    headers = keyed() | {"Authorization": f"Bearer {tokens['accessToken']}"}
    before = everything(as_root)
    secret = {
        "register": {"organizationName": "Org", "email": "o@o.test", "name": "O", "password": PASSWORD},
        "login": {"email": "ana@north.test", "password": PASSWORD},
        "refresh": {"refreshToken": tokens["refreshToken"]},
        "logout": {},
        "password": {"currentPassword": PASSWORD, "newPassword": PASSWORD},
    }
    for what, body in secret.items():
        assert_names_the_key(await client.post(f"/api/auth/{what}", json=body, headers=headers), what)
    invitation = {"email": "i@north.test", "role": "admin"}
    assert_names_the_key(
        await as_user("alma")("POST", "/api/invitations", json=invitation, headers=keyed()), "invitations"
    )
    assert everything(as_root) == before
    assert (await as_user("alma").post("/api/invitations", invitation)).status_code == 201  # controls
    assert (await refresh(client, tokens)).status_code == 200
    assert [(await call(client, what, **secret[what])).status_code for what in ("register", "login")] == [201, 200]
    assert await is_in(client, tokens)


async def test_only_post_accepts_a_key(as_user, as_root, cast):
    alma, care = as_user("alma"), f"/api/patients/{cast.tina_patient}/providers/{cast.ana_provider}"
    for key in ("k", "not well formed"):
        for method, path, bodies in [
            ("GET", "/api/claims", [None]), ("PATCH", f"/api/claims/{cast.anas_claim}", [{"notes": f"a {key}"}, {"notes": f"b {key}"}]),
            ("PUT", f"/api/claims/{cast.anas_claim}/assignment", [{"userId": str(cast.paul)}, {"userId": None}]),
            ("PUT", care, [None]), ("DELETE", care, [None]),
        ]:  # fmt: skip
            for body in bodies:
                answer = await alma(method, path, json=body, headers=keyed(key))
                assert (answer.is_success, is_replay(answer)) == (True, False), (method, path, answer.text)
                if body:  # the second had its effect, too
                    data = answer.json()["data"]
                    assert {"userId": data["assignedTo"], "notes": data["notes"]}.items() >= body.items()
    assert counted(as_root, "idempotency_keys where key <> 'cast'") == 0
