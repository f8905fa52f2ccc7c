"""`make run`: database, schema, demo data, the API and a worker, under one supervisor. For development only."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

from app import schema, seed
from app.config import Settings, new_secret, read_settings
from app.postgres import Embedded

FIRST_WAIT, LONGEST_WAIT, LIVED = 0.5, 30.0, 10.0
"""Seconds: before the first restart, at most, and after how long a life the wait starts over."""
DRAIN = 25.0
"""Seconds that API and worker get to finish what they are doing."""


@contextmanager
def _step(what: str) -> Iterator[None]:
    started = time.monotonic()
    print(f"{what:<34}", end="", flush=True)
    yield
    print(f"{time.monotonic() - started:5.1f} s", flush=True)


def _secrets(folder: Path) -> dict[str, str]:
    """Made at the first run, readable by the owner only, read from then on."""
    path = folder / "secrets.env"
    if not path.exists():
        lines = f"TOKEN_KEYS=dev:{new_secret()}\nAPI_PASSWORD={new_secret()}\nWORKER_PASSWORD={new_secret()}\n"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(lines)
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def login_url(url: str, user: str, password: str) -> str:
    """The same server and database for another login."""
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    parts.pop("user", None), parts.pop("password", None)
    name = parts.pop("dbname", "postgres")
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in parts.items())
    return f"postgresql://{quote(user)}:{quote(password, safe='')}@/{quote(name)}?{query}"


class Child:
    """A process that is started again when it ends by itself, later each time."""

    def __init__(self, name: str, command: list[str], environ: dict[str, str]) -> None:
        self.name = name
        self._command = command
        self._environ = environ
        self._process: asyncio.subprocess.Process | None = None

    async def keep(self) -> None:
        """Runs until cancelled."""
        wait = FIRST_WAIT
        while True:
            started = time.monotonic()
            # A session of its own: Ctrl-C reaches the supervisor alone, which ends everything in order.
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environ, start_new_session=True
            )
            status = await self._process.wait()
            wait = FIRST_WAIT if time.monotonic() - started > LIVED else wait
            print(f"{self.name} ended with {status}; starting it again in {wait:g} s", flush=True)
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)

    async def stop(self) -> None:
        """Lets it finish what it is doing."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), DRAIN)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


def _children(settings: Settings, database: str, secrets: dict[str, str]) -> tuple[dict[str, str], list[Child]]:
    environ = os.environ | {
        "ENVIRONMENT": settings.environment,
        "TOKEN_KEYS": secrets["TOKEN_KEYS"],
        "API_DATABASE_URL": login_url(database, "claims_api", secrets["API_PASSWORD"]),
        "WORKER_DATABASE_URL": login_url(database, "claims_worker", secrets["WORKER_PASSWORD"]),
        "DATABASE_URL": database,
        "PROCRASTINATE_APP": "jobs.app",
        "HOST": settings.host,
        "PORT": str(settings.port),
    }
    without_admin = {name: value for name, value in environ.items() if name != "DATABASE_URL"}
    api = Child("the API", [sys.executable, "-m", "app"], without_admin)
    worker = Child("the worker", [sys.executable, "-m", "procrastinate", "worker"], without_admin)
    return environ, [api, worker]


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  (loopback)
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


async def _supervise(children: list[Child], address: str) -> None:
    """Keeps the children until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tasks = [asyncio.create_task(child.keep()) for child in children]
    try:
        started = time.monotonic()
        while not stop.is_set() and not await asyncio.to_thread(_is_ready, f"{address}/health/ready"):  # noqa: ASYNC110  (another process's state)
            await asyncio.sleep(0.05)
        if not stop.is_set():
            print(f"{'API and worker':<34}{time.monotonic() - started:5.1f} s", flush=True)
            _greet(address)
        await stop.wait()
    finally:
        print("stopping: requests and jobs under way are finished first", flush=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*(child.stop() for child in children))


def _greet(address: str) -> None:
    accounts = "\n".join(
        f"    {account:<34}{what}"
        for account, what in [
            ("admin@healthfirst.com", "admin, HealthFirst Insurance"),
            ("processor1@healthfirst.com", "claims processor"),
            ("provider1@healthfirst.com", "provider"),
            ("patient1@healthfirst.com", "patient"),
            ("admin@securecare.com", "admin, SecureCare Insurance"),
        ]
    )
    print(
        f"\nready at {address}\n  reference   {address}/docs\n  accounts    password {seed.PASSWORD}\n{accounts}\n",
        flush=True,
    )


def _refuse_taken(settings: Settings) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError:
            print(f"port {settings.port} is taken; choose another with PORT=...", file=sys.stderr)
            raise SystemExit(1) from None


def main() -> None:
    """Runs everything until SIGINT or SIGTERM, then stops all of it."""
    settings = read_settings()
    if settings.environment == "production":
        print("make run is for development; ENVIRONMENT is production", file=sys.stderr)
        raise SystemExit(2)
    _refuse_taken(settings)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(settings.data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    server = None if settings.database_url else Embedded(folder / "postgres")
    try:
        if server:
            with _step("PostgreSQL"):
                server.start()
        database = settings.database_url or (server.url() if server else "")
        environ, children = _children(settings, database, _secrets(folder))
        told = read_settings(environ)
        with _step("schema"):
            schema.apply(told)
        with _step("demo data"):
            seed.plant(told)
        asyncio.run(_supervise(children, f"http://{settings.host}:{settings.port}"))
    except KeyboardInterrupt:
        pass
    finally:
        if server:
            server.stop()
        print("stopped", flush=True)


if __name__ == "__main__":
    main()
