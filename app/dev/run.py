"""`make run`: starts database, schema, demo data, API and worker under one supervisor. For development only."""

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
from app.dev.address import port_file
from app.dev.postgres import Embedded
from app.operations import migrate
from app.server import supervisor
from app.server.supervisor import Child, print_line

HOST = "127.0.0.1"
"""Only the local host, because the demo accounts have a known password."""
READY_TIMEOUT_S = 60.0
"""How long API and worker may take to become ready."""
ACCOUNTS = {
    "admin@healthfirst.com": "admin, HealthFirst Insurance",
    "processor1@healthfirst.com": "claims processor, HealthFirst Insurance",
    "provider1@healthfirst.com": "provider, HealthFirst Insurance",
    "patient1@healthfirst.com": "patient, HealthFirst Insurance",
    "admin@securecare.com": "admin, SecureCare Insurance",
}


class Supervisor:
    """The database server and the child processes, with their start and their end."""

    def __init__(self) -> None:
        self.server: Embedded | None = None
        self.children: list[Child] = []
        self._stopping = False

    def interrupt(self, number: int, _frame: FrameType | None) -> None:
        """Begins the shutdown at the first signal. A second Ctrl-C kills the children."""
        if not self._stopping:
            self._stopping = True
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            for child in self.children:
                child.signal(signal.SIGKILL)

    def start(self, settings: Settings, folder: Path) -> None:
        """Starts database, API and worker, and creates schema and demo data. Returns when API and worker are ready."""
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
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not _is_ready(port):
            if failed := [child.name for child in self.children if child.has_ended()]:
                raise RuntimeError(f"{failed[0]} could not start; see its messages above")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the API is not ready after {READY_TIMEOUT_S:g} s")
            time.sleep(0.05)

    def ensure_running(self) -> None:
        """Restarts children that have exited, then waits 50 ms. Must be called periodically."""
        for child in self.children:
            child.ensure_running()
        time.sleep(0.05)

    def stop(self) -> None:
        """Stops API and worker, which finish their requests and jobs, and then the database server."""
        self._stopping = True
        if self.children:
            print_line("stopping: running requests and jobs are finished first")
        supervisor.terminate(self.children)
        if self.server:
            self.server.stop()
        print_line("stopped")


@contextmanager
def _step(name: str) -> Iterator[None]:
    started_at = time.monotonic()
    yield
    print_line(f"{name:<20}{time.monotonic() - started_at:5.1f} s")


def _secrets(folder: Path) -> dict[str, str]:
    """The secrets in secrets.env, which the first run creates. Only the owner may read the file."""
    path = folder / "secrets.env"
    stored = dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line) if path.exists() else {}
    created = {"TOKEN_KEYS": f"dev:{new_secret()}", "API_PASSWORD": new_secret(), "WORKER_PASSWORD": new_secret()}
    temporary = path.with_suffix(".new")
    temporary.touch(mode=0o600)
    temporary.write_text("".join(f"{name}={value}\n" for name, value in (created | stored).items()))
    temporary.rename(path)
    return created | stored


def login_url(url: str, user: str, password: str) -> str:
    """The URL of the same server and database for another login."""
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    parts.pop("user", None), parts.pop("password", None)
    name = parts.pop("dbname", "postgres")
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in parts.items())
    return f"postgresql://{quote(user)}:{quote(password, safe='')}@/{quote(name)}?{query}"


def _environ(settings: Settings, database: str, secrets: dict[str, str]) -> dict[str, str]:
    """The environment of API and worker, without the administrator's login."""
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
        response = connection.getresponse()
        return response.status == 200 and json.load(response)["workers"] == "ok"
    return False


def _print_address(port: int) -> None:
    address = f"http://{HOST}:{port}"
    accounts = "".join(f"    {account:<30}{description}\n" for account, description in ACCOUNTS.items())
    print_line(
        f"\nready at {address}\n  reference   {address}/docs\n  accounts    password {seed.PASSWORD}\n{accounts}"
    )


def _refuse(reason: str, status: int) -> NoReturn:
    print(f"make run: {reason}", file=sys.stderr)
    raise SystemExit(status)


def _refuse_if_in_use(port: int, folder: Path) -> None:
    """Exits if the port or the folder is in use. The kernel releases the lock on the folder when this process ends."""
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
    """Runs everything until SIGINT, SIGTERM or SIGHUP, then stops it."""
    settings = read_settings()
    if settings.environment == "production":
        _refuse("for development only, and ENVIRONMENT is production", 2)
    folder = Path(settings.data_dir).resolve()
    _refuse_if_in_use(settings.port, folder)
    supervisor = Supervisor()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, supervisor.interrupt)
    try:
        supervisor.start(settings, folder)
        port_file(folder).write_text(f"{settings.port}\n")
        _print_address(settings.port)
        while True:
            supervisor.ensure_running()
    except KeyboardInterrupt:
        pass
    except (RuntimeError, OSError, psycopg.Error) as error:
        _refuse("\n".join([str(error).strip(), *getattr(error, "__notes__", [])]), 1)
    finally:
        port_file(folder).unlink(missing_ok=True)
        supervisor.stop()


if __name__ == "__main__":
    main()
