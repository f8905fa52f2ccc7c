"""Clients of the API, and waiting for a condition."""

import asyncio
import time
from typing import Any

import httpx


class As:
    """A client that calls as one user."""

    def __init__(self, client: httpx.AsyncClient, token: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}

    async def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self._client.request(method, path, headers=self._headers | options.pop("headers", {}), **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self("GET", path, **options)

    async def post(self, path: str, json: Any) -> httpx.Response:
        return await self("POST", path, json=json)

    async def patch(self, path: str, json: Any) -> httpx.Response:
        return await self("PATCH", path, json=json)


class OtherRequests:
    """Counts the turns of the event loop that other requests get, meanwhile."""

    def __init__(self) -> None:
        self.turns = 0

    async def _run(self) -> None:
        while True:
            self.turns += 1
            await asyncio.sleep(0)

    async def __aenter__(self) -> "OtherRequests":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()


async def until(condition, seconds: float = 15.0):
    """Waits until the condition returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while not (found := await condition()):
        assert time.monotonic() < deadline, "the condition never became true"
        await asyncio.sleep(0.02)
    return found
