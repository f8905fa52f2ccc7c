"""`python -m app.dev.permissions`: prints sql/PERMISSIONS.md from the database at DATABASE_URL, or from a new database."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from app.config import Settings, read_settings
from app.dev.postgres import Embedded
from app.operations import migrate
from app.operations.permissions import document, read


@contextmanager
def _database() -> Iterator[str]:
    """DATABASE_URL, or an administrator's URL of a new database with the schema of this code."""
    if url := read_settings().database_url:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="claims-permissions-") as folder:
        Path(folder).chmod(0o711)
        server = Embedded(Path(folder) / "postgres", durable=False).start()
        try:
            migrate.apply(Settings(database_url=server.url()))
            yield server.url()
        finally:
            server.stop("immediate")


def main() -> None:
    """Prints the document."""
    with _database() as url, psycopg.connect(url) as connection:
        print(document(read(connection)))


if __name__ == "__main__":
    main()
