"""Disk space of unfinished imports: its limits, and its release at every kind of end."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from app.http import ndjson, spool
from app.http.spool import Disk
from app.security.tokens import make_token
from tests.http.test_import_export import line
from tests.support.cast import KEYS, caller
from tests.support.clients import until

IMPORT = "/api/claims/import"


@pytest.fixture(autouse=True)
def on_disk(monkeypatch):
    """Every body is written to a file at once."""
    monkeypatch.setattr(spool, "IN_MEMORY_BYTES", 10)


@pytest.fixture
def app(client):
    return client._transport.app


def files() -> int:
    """Open files of this process that have been deleted."""
    links = 0
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            links += str(link.readlink()).endswith("(deleted)")
    return links


class Import:
    """An import whose client sends the given chunks, and reads while `reads` is set."""

    def __init__(self, app, who, name: str) -> None:
        self._incoming: asyncio.Queue[dict] = asyncio.Queue()
        self._token = make_token(caller(who, name), KEYS)
        self._app = app
        self.reads = asyncio.Event()
        self.reads.set()
        self.sent: list[dict] = []
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        headers = [(b"host", b"test"), (b"authorization", f"Bearer {self._token}".encode())]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": IMPORT, "root_path": "",
            "raw_path": IMPORT.encode(), "scheme": "http", "query_string": b"", "client": ("127.0.0.1", 1), "server": ("test", 80),
            "headers": [*headers, (b"content-type", b"application/x-ndjson")],
        }  # fmt: skip

        async def send(message: dict) -> None:
            self.sent.append(message)
            if message["type"] == "http.response.body":
                await self.reads.wait()
                if not message.get("more_body"):
                    self.hang_up()  # a server reports a disconnected client this way

        await self._app(scope, self._incoming.get, send)

    def send(self, body: bytes, more: bool = True) -> None:
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def hang_up(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def results(self) -> list[str]:
        whole = b"".join(one.get("body", b"") for one in self.sent)
        return [json.loads(one)["result"] for one in whole.splitlines()]


@asynccontextmanager
async def held(app, who, name: str, size: int):
    """An import that has sent this number of bytes and stays open until the block ends."""
    one, before = Import(app, who, name), app.state.disk.used
    one.send(b"x" * size)

    async def received():
        return app.state.disk.used == before + size

    await until(received)
    yield one
    one.hang_up()
    await asyncio.wait([one.task])


async def test_a_user_uses_a_quarter_of_the_disk_at_most(app, casts):
    app.state.disk = Disk(4000)
    north, south = casts["north"], casts["south"]
    async with held(app, north, "alma", 900) as first:
        refused = Import(app, north, "alma")
        refused.send(b"x" * 101)
        await refused.task
        assert (refused.status, refused.headers[b"retry-after"]) == (429, b"30")
        assert app.state.disk.used == 900  # a refused import uses none
        async with held(app, north, "ana", 900), held(app, south, "alma", 900):  # others have a quarter of their own
            assert app.state.disk.used == 2700
        assert not first.task.done()
    assert app.state.disk.used == 0
    async with held(app, north, "alma", 1000):
        pass


async def test_all_users_together_use_the_whole_at_most(app, casts):
    app.state.disk = Disk(4000)
    north, south = casts["north"], casts["south"]
    async with held(app, north, "alma", 900), held(app, north, "ana", 900), held(app, north, "ben", 900):
        async with held(app, south, "alma", 900):
            refused = Import(app, south, "ana")
            refused.send(b"x" * 401)
            await refused.task
            assert (refused.status, refused.headers[b"retry-after"]) == (503, b"30")
        async with held(app, south, "ana", 401):  # control: there is space again
            pass


async def test_a_body_counts_while_it_arrives(app, cast):
    app.state.disk = Disk(4000)
    async with held(app, cast, "alma", 900) as one:
        one.send(b"x" * 100)
        one.send(b"x")
        await one.task
        assert one.status == 429
    assert app.state.disk.used == 0


async def test_a_body_has_a_time_limit(app, cast, monkeypatch):
    monkeypatch.setattr(ndjson, "RECEIVE_TIMEOUT_S", 0.3)
    async with held(app, cast, "alma", 100) as one:
        await one.task
    assert (one.status, one.headers[b"connection"]) == (408, b"close")
    assert json.loads(one.sent[1]["body"])["error"]["code"] == "REQUEST_TIMEOUT"
    assert app.state.disk.used == 0


async def begin(app, cast) -> Import:
    """An import whose results are being sent, and whose client reads none of them."""
    one = Import(app, cast, "alma")
    one.reads.clear()
    one.send("\n".join(line(cast, claimNumber=f"S-{n}") for n in range(250)).encode(), more=False)

    async def answers():
        return len(one.sent) == 2

    await until(answers)
    return one


async def finish(one: Import) -> None:
    one.reads.set()
    await one.task
    assert one.results == ["created"] * 250


async def stall(one: Import) -> None:
    await one.task
    assert (one.status, len(one.sent)) == (200, 2)


async def leave(one: Import) -> None:
    one.hang_up()
    await one.task
    assert not one.reads.is_set()


async def cancel(one: Import) -> None:
    one.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one.task


@pytest.mark.parametrize("end", [finish, stall, leave, cancel])
async def test_no_disk_is_used_once_a_response_has_ended(app, cast, monkeypatch, end):
    if end is stall:
        monkeypatch.setattr(spool, "SEND_TIMEOUT_S", 0.3)
    before = files()
    one = await begin(app, cast)
    assert (files(), app.state.disk.used > 250 * 100) == (before + 1, True)  # control
    await end(one)
    assert (files(), app.state.disk.used) == (before, 0)


@pytest.mark.parametrize("end", ["gone", "cancelled", "too many lines", "another user's share"])
async def test_no_disk_is_used_once_a_body_has_ended(app, cast, monkeypatch, end):
    before = files()
    async with held(app, cast, "alma", 100) as one:
        assert files() == before + 1  # control
        match end:
            case "gone":
                one.hang_up()
            case "cancelled":
                one.task.cancel()
            case "too many lines":
                one.send(b"x\n" * (ndjson.MAX_LINES + 1))
            case _:
                app.state.disk._by_user[cast.ana] = app.state.disk._limit - 100
                one.send(b"x")
        with suppress(asyncio.CancelledError):
            await one.task
        assert one.status in {"too many lines": (413,), "another user's share": (503,)}.get(end, (None, 500))
        app.state.disk._by_user.pop(cast.ana, None)
        assert (files(), app.state.disk.used) == (before, 0)


async def test_no_disk_is_used_once_the_database_has_failed(app, cast, as_root):
    as_root.execute("revoke execute on function app.import_claims from claims_admin")
    before = files()
    one = Import(app, cast, "alma")
    one.send(line(cast).encode(), more=False)
    await one.task
    assert one.status == 403
    assert (files(), app.state.disk.used) == (before, 0)
