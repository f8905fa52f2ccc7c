"""Periodic jobs of the audit log: seal final entries every minute, and write the last seals to the process log every hour.

The process log is outside the database, so a login with any rights there cannot change these copies.
"""

import logging

from app.database import statements
from jobs import app

log = logging.getLogger("claims.worker")
queries = statements.load("queue")

SEAL_TIMEOUT_MS = 600_000
"""The statement_timeout of sealing. It is long, because a large backlog may need sealing at once."""


@app.periodic(cron="* * * * *")
@app.task(name="seal_audit_logs", queue="maintenance", lock="seal_audit_logs", queueing_lock="seal_audit_logs")
async def seal_audit_logs(timestamp: int) -> int:  # noqa: ARG001
    """Seals the final entries of every organization; returns how many."""
    params = {"milliseconds": str(SEAL_TIMEOUT_MS)}
    async with app.queue_pool.connection() as connection, connection.transaction():
        await connection.execute(queries.set_statement_timeout.text(params), params)
        cursor = await connection.execute(queries.seal.text({}))
        ((sealed,),) = await cursor.fetchall()
        return int(sealed)


@app.periodic(cron="0 * * * *")
@app.task(name="note_audit_heads", queue="maintenance")
async def note_audit_heads(timestamp: int) -> None:  # noqa: ARG001
    """Logs the last seal of each organization.

    sql/operations/verify_audit.sql compares these lines with the chain of seals. A rebuilt chain does not match them.
    """
    for organization_id, number, digest in (await app.pool.fetch([(queries.audit_heads.text({}), {})]))[0]:
        log.info("audit seal %s %s %s", organization_id, number, digest)
