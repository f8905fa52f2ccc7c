"""The trail under seal: every minute what is final, and every hour the last seals into the log, out of the database's reach."""

import logging

from app.database import statements
from jobs import app

log = logging.getLogger("claims.worker")
queries = statements.load("queue")

AT_MOST = 600_000
"""Milliseconds that sealing may take where much has piled up."""


@app.periodic(cron="* * * * *")
@app.task(name="seal_audit_logs", queue="maintenance", lock="seal_audit_logs", queueing_lock="seal_audit_logs")
async def seal_audit_logs(timestamp: int) -> int:  # noqa: ARG001
    """How many entries it sealed."""
    given = {"milliseconds": str(AT_MOST)}
    async with app.queue_pool.connection() as connection, connection.transaction():
        await connection.execute(queries.set_statement_timeout.text(given), given)
        cursor = await connection.execute(queries.seal.text({}))
        ((sealed,),) = await cursor.fetchall()
        return int(sealed)


@app.periodic(cron="0 * * * *")
@app.task(name="note_audit_heads", queue="maintenance")
async def note_audit_heads(timestamp: int) -> None:  # noqa: ARG001
    """Whoever makes a chain anew can't make this log anew: sql/operations/verify_audit.sql reads it."""
    for organization_id, number, digest in (await app.pool.fetch([(queries.audit_heads.text({}), {})]))[0]:
        log.info("audit seal %s %s %s", organization_id, number, digest)
