"""Idempotency keys under load: duplicates at the same moment, and requests that end halfway."""

import asyncio
import hashlib
import json

import psycopg

from tests.http.test_idempotency import IMPORT, counted, everything, is_replay, keyed, provide
from tests.security.attacks.cases import NDJSON, claim
from tests.support.clients import until


async def test_a_request_that_fails_before_its_response_is_stored_has_no_effect(as_user, as_root):
    alma, before = as_user("alma"), everything(as_root)
    # The response cannot be stored, after the effect and before the end of the transaction.
    as_root.execute("alter table idempotency_keys add constraint broken check (status is null) not valid")
    assert (await provide(alma, "k")).status_code == 500
    as_root.execute("alter table idempotency_keys drop constraint broken")
    assert everything(as_root) == before
    mended = await provide(alma, "k")
    assert (mended.status_code, is_replay(mended)) == (201, False)
    assert is_replay(await provide(alma, "k"))


async def test_concurrent_requests_with_one_key_have_one_effect(as_user, as_root, cast):
    body, before = claim(cast) | {"claimNumber": None}, counted(as_root, "claims")
    as_root.execute("update claims set assigned_to = null")
    for who, path, sent in [("alma", "/api/claims", {"json": body}), ("pia", "/api/claims/next", {})]:
        answers = await asyncio.gather(*(as_user(who)("POST", path, headers=keyed(), **sent) for _ in range(20)))
        done = [answer for answer in answers if answer.is_success]
        assert {answer.status_code for answer in answers if answer not in done} <= {409}
        assert len({answer.content for answer in done}) == 1
        assert [is_replay(answer) for answer in done].count(False) == 1, path
    assert counted(as_root, "claims") == before + 1
    assert counted(as_root, f"claims where assigned_to = '{cast.pia}'") == 1


async def test_a_request_waits_for_a_running_one_with_its_key(as_user, as_role, as_root):
    alma, raw = as_user("alma"), json.dumps({"npi": "1679576722", "name": "Cara"}).encode()

    def hold() -> psycopg.Connection:
        holder = as_role("alma")
        taken = holder.execute(
            "select * from reserve_idempotency_key('/api/providers', 'k', %s)", [hashlib.sha256(raw).digest()]
        )
        assert taken.fetchall() == []
        return holder

    async def post(key: str = "k"):
        json_ = {"Content-Type": "application/json"}
        return await alma("POST", "/api/providers", content=raw, headers=keyed(key) | json_)

    async def waiting():
        return as_root.execute(
            "select count(*) from pg_locks join pg_stat_activity using (pid) where not granted and datname = current_database()"
        ).fetchone() == (1,)

    holder = hold()
    refused = await post()
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "CONFLICT")
    assert list(refused.json()["error"]["details"]["fields"]) == ["Idempotency-Key"]
    duplicate = asyncio.create_task(post())
    await until(waiting)
    holder.execute("select store_response('/api/providers', 'k', 201, '{\"ETag\": \"x\"}', 'the first answer')")
    holder.commit()
    answer = await duplicate
    assert (answer.status_code, answer.content, answer.headers["ETag"]) == (201, b"the first answer", "x")
    assert is_replay(answer)
    as_root.execute("delete from idempotency_keys where key = 'k'")
    holder = hold()
    duplicate = asyncio.create_task(post())
    await until(waiting)
    holder.rollback()
    answer = await duplicate
    assert (answer.status_code, is_replay(answer)) == (201, False)
    assert is_replay(await post())


async def test_an_import_sent_again_creates_nothing_twice(as_user, as_root, cast):
    lines = [json.dumps(claim(cast) | ({} if number % 3 else {"claimNumber": None})) for number in range(7)]

    async def send(who: str, sent: list[str], key: str = "k"):
        headers = NDJSON | keyed(key)
        return await as_user(who)("POST", IMPORT, content="\n".join(sent), headers=headers)

    def results(response):
        assert response.status_code == 200
        return [(one["result"], one["id"]) for one in map(json.loads, response.text.splitlines())]

    before = counted(as_root, "claims")
    first = results(await send("alma", lines))
    assert [result for result, _ in first] == ["created"] * 7
    again = results(await send("alma", lines))
    assert [result for result, _ in again] == ["duplicate"] * 7
    assert [id_ for _, id_ in again] == [id_ for _, id_ in first]
    assert (await send("alma", lines[:4])).status_code == 422  # a part of the body is another body
    assert counted(as_root, "claims") == before + 7
    for who, key in [("alma", "another"), ("ana", "k")]:  # controls: another key, another user
        assert [result for result, _ in results(await send(who, lines, key))][::3] == ["created"] * 3


async def test_duplicates_of_a_running_request_use_no_connections(settings, as_user, as_role, as_root):
    holder = as_role("alma")
    holder.execute("select * from reserve_idempotency_key('/api/patients', 'held', '')")
    new = {"memberNumber": "M-77", "firstName": "Nils", "lastName": "New", "dateOfBirth": "2000-01-01"}
    alma = as_user("alma")
    waiting = [
        asyncio.create_task(alma("POST", "/api/patients", json=new, headers={"Idempotency-Key": "held"}))
        for _ in range(2 * settings.pool_size)
    ]

    async def one_waits():
        return as_root.execute("select exists (select from pg_locks where not granted)").fetchone()[0]

    await until(one_waits)
    others = await asyncio.gather(*(as_user("alma", "south").get("/api/claims") for _ in range(settings.pool_size)))
    assert [one.status_code for one in others] == [200] * settings.pool_size
    assert not any(one.done() for one in waiting)  # control: all of them were still waiting
    holder.rollback()
    assert sorted({one.status_code for one in await asyncio.gather(*waiting)}) == [201]
