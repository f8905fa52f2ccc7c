"""`make run`: database, schema, demo data, the API and a worker, under one supervisor. For development only."""

import fcntl
import http.client
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from app.config import Settings, new_secret, read_settings
from app.dev import seed
from app.dev.postgres import Embedded
from app.operations import migrate
from app.server import supervisor
from app.server.supervisor import Child, print_line

HOST = "127.0.0.1"
"""Demo passwords are for nobody else's network."""
READY_LIMIT = 60.0
"""Seconds until API and worker must be ready."""
ACCOUNTS = {
    "admin@healthfirst.com": "admin, HealthFirst Insurance",
    "processor1@healthfirst.com": "claims processor, HealthFirst Insurance",
    "provider1@healthfirst.com": "provider, HealthFirst Insurance",
    "patient1@healthfirst.com": "patient, HealthFirst Insurance",
    "admin@securecare.com": "admin, SecureCare Insurance",
}


class Supervisor:
    """What runs, and how it ends."""

    def __init__(self) -> None:
        self.server: Embedded | None = None
        self.children: list[Child] = []
        self._stopping = False

    def interrupt(self, number: int, _frame: FrameType | None) -> None:
        """The first signal begins the end; a second Ctrl-C does not wait for what is under way."""
        if not self._stopping:
            self._stopping = True
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            for child in self.children:
                child.signal(signal.SIGKILL)

    def start(self, settings: Settings, folder: Path) -> None:
        """Database, schema and demo data, API and worker; returns when the API answers."""
        database = settings.database_url
        if not database:
            self.server = Embedded(folder / "postgres")
            with _step("PostgreSQL"):
                self.server.start()
            database = self.server.url()
        environ = _environ(settings, database, _secrets(folder))
        child_environment = read_settings(environ | {"DATABASE_URL": database})
        with _step("schema"):
            migrate.apply(child_environment)
        with _step("demo data"):
            seed.seed_demo_data(child_environment)
        self.children = [Child("the API", ["app"], environ), Child("the worker", ["procrastinate", "worker"], environ)]
        with _step("API and worker"):
            self._await_ready(settings.port)

    def _await_ready(self, port: int) -> None:
        self.ensure_running()
        limit = time.monotonic() + READY_LIMIT
        while not _is_ready(port):
            if failed := [child.name for child in self.children if child.has_ended()]:
                raise RuntimeError(f"{failed[0]} could not start; it says above why")
            if time.monotonic() > limit:
                raise RuntimeError(f"the API is not ready after {READY_LIMIT:g} s")
            time.sleep(0.05)

    def ensure_running(self) -> None:
        """A moment of supervision, to be called again and again."""
        for child in self.children:
            child.ensure_running()
        time.sleep(0.05)

    def stop(self) -> None:
        """API and worker finish what they are doing, then the server ends: nobody's connection is cut."""
        self._stopping = True
        if self.children:
            print_line("stopping: requests and jobs under way are finished first")
        supervisor.terminate(self.children)
        if self.server:
            self.server.stop()
        print_line("stopped")


@contextmanager
def _step(what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    print_line(f"{what:<20}{time.monotonic() - started:5.1f} s")


def _secrets(folder: Path) -> dict[str, str]:
    """Made at the first run, readable by the owner only, read from then on."""
    path = folder / "secrets.env"
    kept = dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line) if path.exists() else {}
    made = {"TOKEN_KEYS": f"dev:{new_secret()}", "API_PASSWORD": new_secret(), "WORKER_PASSWORD": new_secret()}
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text("".join(f"{name}={value}\n" for name, value in (made | kept).items()))
    fresh.rename(path)
    return made | kept


def login_url(url: str, user: str, password: str) -> str:
    """The same server and database for another login."""
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    parts.pop("user", None), parts.pop("password", None)
    name = parts.pop("dbname", "postgres")
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in parts.items())
    return f"postgresql://{quote(user)}:{quote(password, safe='')}@/{quote(name)}?{query}"


def _environ(settings: Settings, database: str, secrets: dict[str, str]) -> dict[str, str]:
    """What API and worker are told: everything but the administrator's login."""
    child_environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return child_environment | {
        "ENVIRONMENT": settings.environment,
        "TOKEN_KEYS": secrets["TOKEN_KEYS"],
        "API_DATABASE_URL": login_url(database, "claims_api", secrets["API_PASSWORD"]),
        "WORKER_DATABASE_URL": login_url(database, "claims_worker", secrets["WORKER_PASSWORD"]),
        "PROCRASTINATE_APP": "jobs.app",
        "HOST": HOST,
        "PORT": str(settings.port),
    }


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        return answer.status == 200 and json.load(answer)["workers"] == "ok"
    return False


def _greet(port: int) -> None:
    address = f"http://{HOST}:{port}"
    accounts = "".join(f"    {account:<30}{what}\n" for account, what in ACCOUNTS.items())
    print_line(
        f"\nready at {address}\n  reference   {address}/docs\n  accounts    password {seed.PASSWORD}\n{accounts}"
    )


def _refuse(reason: str, status: int) -> NoReturn:
    print(f"make run: {reason}", file=sys.stderr)
    raise SystemExit(status)


def _refuse_taken(port: int, folder: Path) -> None:
    """Before anything is started. The lock on the folder stays until this process ends, however it ends."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            _refuse(f"port {port} can't be used ({error.strerror}); choose another: PORT=8001 make run", 1)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        fcntl.flock(os.open(folder / "lock", os.O_WRONLY | os.O_CREAT, 0o600), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _refuse(f"another make run uses {folder}; stop it, or choose another folder with DATA_DIR", 1)


def main() -> None:
    """Runs everything until SIGINT, SIGTERM or SIGHUP, then stops all of it."""
    settings = read_settings()
    if settings.environment == "production":
        _refuse("for development only, and ENVIRONMENT is production", 2)
    folder = Path(settings.data_dir).resolve()
    _refuse_taken(settings.port, folder)
    supervisor = Supervisor()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, supervisor.interrupt)
    try:
        supervisor.start(settings, folder)
        _greet(settings.port)
        while True:
            supervisor.ensure_running()
    except KeyboardInterrupt:
        pass
    except (RuntimeError, OSError, psycopg.Error) as error:
        _refuse("\n".join([str(error).strip(), *getattr(error, "__notes__", [])]), 1)
    finally:
        supervisor.stop()


if __name__ == "__main__":
    main()
