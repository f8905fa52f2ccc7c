"""Password hashes: argon2id, computed outside the event loop, one at a time. app/http/concurrency.py orders the waiting requests."""

import asyncio
import base64
import fcntl
import hmac
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher, extract_parameters

T = TypeVar("T")

MAX_THREADS = 1
"""Hashes that one process computes at a time, 19 MiB each."""
NICE = 10
"""Niceness of the hashing thread: next to one other busy thread it gets a tenth of a core, so it never starves."""


def _lower_priority() -> None:
    if sys.platform == "linux":  # there it changes this thread only; elsewhere it would change the whole process
        os.nice(NICE)


_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)  # OWASP's floor: 19 MiB, t=2, p=1
DUMMY_HASH = _hasher.hash("a password of no account")
_started = time.thread_time()
_hasher.hash("a password of no account")  # the second hash, because the first one also faults memory in
_USUAL_CPU_S = time.thread_time() - _started
"""CPU time of one hash on this machine."""
_threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="argon2", initializer=_lower_priority)


_lock_file: int | None = None


def use_interprocess_lock(file: int) -> None:
    """Makes this process lock the open file while it hashes. Processes that share the file hash one at a time."""
    global _lock_file
    _lock_file = file


async def _run_in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_threads, _with_lock, work)


def _with_lock(work: Callable[[], T]) -> T:
    """Runs the work, then sleeps as long as it computed: a burst of logins uses at most half a core for hashing.

    After a hash that was cheaper than today's, it sleeps longer, so that the response time does not reveal an outdated hash.
    """
    if _lock_file is not None:
        fcntl.lockf(_lock_file, fcntl.LOCK_EX)  # the kernel releases it when the process ends, even if it is killed
    started = time.thread_time()
    try:
        return work()
    finally:
        worked_s = time.thread_time() - started
        time.sleep(max(worked_s, 2 * _USUAL_CPU_S - worked_s))
        if _lock_file is not None:
            fcntl.lockf(_lock_file, fcntl.LOCK_UN)


def hash_password(password: str, reuse_salt_of: str | None = None) -> str:
    """Computes an argon2id PHC string, which costs about 20 ms of one core and 19 MiB. reuse_salt_of: a hash with the salt to use.

    All hashes of one email share a salt, also in different organizations. A login therefore costs one hash, and its duration does
    not reveal the number of organizations.
    """
    return _hasher.hash(password, salt=_salt(reuse_salt_of) if reuse_salt_of else None)


def _salt(password_hash: str) -> bytes:
    text = password_hash.split("$")[4]
    return base64.b64decode(text + "=" * (-len(text) % 4))


def _matches(hashes: list[str], password: str) -> list[bool]:
    """Whether each hash is the password's. Hashes the password once for each different set of parameters and salt."""
    computed: dict[str, str] = {}
    for stored in hashes:
        prefix = stored.rpartition("$")[0]
        if prefix not in computed:
            hasher = PasswordHasher.from_parameters(extract_parameters(stored))
            computed[prefix] = hasher.hash(password, salt=_salt(stored))
    return [hmac.compare_digest(stored, computed[stored.rpartition("$")[0]]) for stored in hashes]


async def make_hash(password: str, reuse_salt_of: str | None = None) -> str:
    """Runs hash_password outside the event loop."""
    return await _run_in_thread(lambda: hash_password(password, reuse_salt_of))


async def verify(hashes: list[str], password: str) -> list[bool]:
    """Whether the password matches each hash. An empty list costs as much as one hash that does not match."""
    return await _run_in_thread(lambda: _matches(hashes or [DUMMY_HASH], password)[: len(hashes)])


def is_outdated(password_hash: str) -> bool:
    """Whether a parameter of the hash is weaker than today's. Stronger ones are kept."""
    stored, today = extract_parameters(password_hash), extract_parameters(DUMMY_HASH)
    strengths = ("version", "time_cost", "memory_cost", "hash_len")
    return stored.type != today.type or any(getattr(stored, name) < getattr(today, name) for name in strengths)
