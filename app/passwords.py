"""Passwords: argon2id, off the event loop, a few at a time."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from app.errors import Unavailable

T = TypeVar("T")

AT_ONCE, WAITING = 2, 256
"""How many are hashed at a time, 19 MiB each, and how many may wait for that; beyond it 503."""

_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)  # OWASP's floor: 19 MiB, t=2, p=1
_NOBODY = _hasher.hash("a password that nobody has")
_threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="argon2")
_queued = 0


async def _apart(work: Callable[[], T]) -> T:
    global _queued
    if _queued >= WAITING:
        raise Unavailable
    _queued += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_threads, work)
    finally:
        _queued -= 1


def hash_password(password: str) -> str:
    """An argon2id PHC string; about 20 ms of one core and 19 MiB."""
    return _hasher.hash(password)


def _fits(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (Argon2Error, InvalidHashError):
        return False


async def make_hash(password: str) -> str:
    """hash_password, off the event loop."""
    return await _apart(lambda: hash_password(password))


async def verify(hashes: list[str], password: str) -> list[bool]:
    """Which of the hashes the password fits. No hash at all costs as much as one that does not fit."""
    return await _apart(lambda: [_fits(one, password) for one in hashes or [_NOBODY]])


def is_outdated(password_hash: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    return _hasher.check_needs_rehash(password_hash)
