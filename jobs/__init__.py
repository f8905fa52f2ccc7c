"""The queue: `procrastinate worker` with PROCRASTINATE_APP=jobs.app."""

from typing import Any

import procrastinate
import psycopg_pool
from procrastinate.psycopg_connector import PsycopgConnector

from app import schema
from app.config import read_settings


class SafeConnector(PsycopgConnector):
    """Opens only where the schema is as expected and the login can't get around row-level security."""

    async def open_async(self, pool: psycopg_pool.AsyncConnectionPool[Any] | None = None) -> None:
        """Raises Unsafe otherwise."""
        await super().open_async(pool)
        async with self.pool.connection() as connection:
            await schema.refuse_unsafe(connection)


def _connector() -> SafeConnector:
    settings = read_settings(need=("worker_database_url",))
    return SafeConnector(
        conninfo=settings.worker_database_url,
        min_size=2,
        max_size=8,
        kwargs={"application_name": "claims-worker", "connect_timeout": 2},
    )


app = procrastinate.App(
    connector=_connector(),
    import_paths=["jobs.patient_status", "jobs.audit_logs"],
    # Retries and rescues send no NOTIFY, so the poll bounds how late they start.
    worker_defaults={"fetch_job_polling_interval": 0.25, "concurrency": 4},
)
