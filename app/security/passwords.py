"""Passwords: argon2id, off the event loop, one at a time. app/http/concurrency.py keeps in order who waits for it."""

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
"""How many one process hashes at a time, 19 MiB each."""
NICE = 10
"""What a hash yields: beside one other thread that wants the same core it gets a tenth of it, never nothing."""


def _yield_to_others() -> None:
    if sys.platform == "linux":  # where it makes this thread nicer; elsewhere it would be the whole process
        os.nice(NICE)


_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)  # OWASP's floor: 19 MiB, t=2, p=1
DUMMY_HASH = _hasher.hash("a password of no account")
_started = time.thread_time()
_hasher.hash("a password of no account")  # again: the first one also touches memory for the first time
_USUAL_CPU_S = time.thread_time() - _started
"""Seconds of CPU that a hash costs on this machine."""
_threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="argon2", initializer=_yield_to_others)


_lock_file: int | None = None


def use_interprocess_lock(file: int) -> None:
    """From now on this process hashes only while no other does that was given the same open file."""
    global _lock_file
    _lock_file = file


async def _run_in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_threads, _with_lock, work)


def _with_lock(work: Callable[[], T]) -> T:
    """The thread rests as long as it has worked, so that a burst leaves more than one of two cores to other requests; longer where an older
    hash cost less than today's, so that the time does not tell whether there was one."""
    if _lock_file is not None:
        fcntl.lockf(_lock_file, fcntl.LOCK_EX)  # a process's lock, which ends with it however it ends
    started = time.thread_time()
    try:
        return work()
    finally:
        worked = time.thread_time() - started
        time.sleep(max(worked, 2 * _USUAL_CPU_S - worked))
        if _lock_file is not None:
            fcntl.lockf(_lock_file, fcntl.LOCK_UN)


def hash_password(password: str, reuse_salt_of: str | None = None) -> str:
    """An argon2id PHC string; about 20 ms of one core and 19 MiB. like: one whose salt is used again.

    All hashes of one email have one salt, whatever organizations it stands in: so a login costs one hash however many they are,
    and its time does not tell.
    """
    return _hasher.hash(password, salt=_salt(reuse_salt_of) if reuse_salt_of else None)


def _salt(made: str) -> bytes:
    text = made.split("$")[4]
    return base64.b64decode(text + "=" * (-len(text) % 4))


def _matches(hashes: list[str], password: str) -> list[bool]:
    """Which of the hashes are the password's: one is made for each set of parameters and salt among them."""
    made: dict[str, str] = {}
    for one in hashes:
        stem = one.rpartition("$")[0]
        if stem not in made:
            made[stem] = PasswordHasher.from_parameters(extract_parameters(one)).hash(password, salt=_salt(one))
    return [hmac.compare_digest(one, made[one.rpartition("$")[0]]) for one in hashes]


async def make_hash(password: str, reuse_salt_of: str | None = None) -> str:
    """hash_password, off the event loop."""
    return await _run_in_thread(lambda: hash_password(password, reuse_salt_of))


async def verify(hashes: list[str], password: str) -> list[bool]:
    """Which of the hashes the password fits. No hash at all costs as much as one that does not fit."""
    return await _run_in_thread(lambda: _matches(hashes or [DUMMY_HASH], password)[: len(hashes)])


def is_outdated(password_hash: str) -> bool:
    """Whether the hash was made with less than today's parameters; one that cost more stays."""
    made, today = extract_parameters(password_hash), extract_parameters(DUMMY_HASH)
    rising = ("version", "time_cost", "memory_cost", "hash_len")
    return made.type != today.type or any(getattr(made, name) < getattr(today, name) for name in rising)
