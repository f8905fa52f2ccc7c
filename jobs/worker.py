"""The worker: Procrastinate's, kept alive through what the database does, with a connection pool that costs one round trip a statement."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, LiteralString

import procrastinate
import psycopg
import psycopg_pool
from procrastinate import exceptions, signals
from procrastinate.connector import Notify
from procrastinate.psycopg_connector import PsycopgConnector

from app.backoff import Backoff
from app.config import Settings
from app.database import statements
from app.database.pool import Pool, connection_problem
from app.database.schema_check import check_database
from app.database.server_version import UnsafeDatabase

log = logging.getLogger("claims.worker")
queries = statements.load("queue")

HEARTBEAT_S, STALLED_AFTER = 2.0, 8.0
"""Seconds: how often a worker says that it lives, and after how long a silence it counts as dead."""
OVERDUE_AFTER_S = 6.0
"""Seconds: no job may take longer (claims_worker's statement_timeout ends it at three), so one that does was lost."""
RESCUE_INTERVAL_S, TOTALS_INTERVAL_S, FLUSH_DENIALS_INTERVAL_S = 1.0, 2.0, 5.0
MAX_FLUSHED_USERS = 100
"""Users whose denials are closed in one transaction."""
MIN_WAKE_INTERVAL_S = 0.02
"""Seconds between two fetches of jobs that notifications cause, at least."""
INSERTED = '{"type": "job_inserted", "job_id": 0}'
"""The notification that Procrastinate's worker gets in place of each one that arrives."""
START_TIMEOUT_S = 10.0
"""Seconds that a worker waits for the database at its start."""
INITIAL_BACKOFF_S, MAX_BACKOFF_S, RESET_BACKOFF_AFTER_S = 0.25, 2.0, 10.0
"""Seconds: before a worker that failed starts again, at most, and after how long a life the wait starts over."""


class Connector(PsycopgConnector):
    """Opens only where the schema is as expected and the login can't get around row-level security.

    The queue's own statements go through psycopg's pool, those of the jobs through work.
    """

    work: Pool

    async def open_async(self, pool: psycopg_pool.AsyncConnectionPool[Any] | None = None) -> None:
        """Raises Unsafe otherwise, and where no connection can be had within ten seconds."""
        await self._await_database()
        await super().open_async(pool)
        self.work = Pool(self._pool_args["conninfo"], size=8, name="claims-job", resets=False)
        await self.work.open()
        await check_database(self.work.fetch)

    async def _await_database(self) -> None:
        """psycopg's pool waits for half a minute and logs two lines for each try."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + START_TIMEOUT_S
        while refused := await self._refused():
            if loop.time() > limit:
                raise UnsafeDatabase(f"the worker can't start: the database {refused}")
            await asyncio.sleep(INITIAL_BACKOFF_S)

    async def _refused(self) -> str:
        """Why no connection can be had; empty where one can."""
        try:
            connection = await psycopg.AsyncConnection.connect(self._pool_args["conninfo"], connect_timeout=2)
        except psycopg.OperationalError as error:
            return connection_problem(error)
        await connection.close()
        return ""

    async def close_async(self) -> None:
        """Both pools."""
        await self.work.close()
        await super().close_async()

    async def _create_pool(self, pool_args: dict[str, Any]) -> psycopg_pool.AsyncConnectionPool[Any]:
        # Procrastinate's own asks every connection first whether it still lives: a round trip more for each statement.
        return psycopg_pool.AsyncConnectionPool(**pool_args, open=False)

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Wakes the worker for any notification, without reading it: every login may send NOTIFY.

        Procrastinate ends its worker at a payload that is not its JSON and cancels the job that a payload names. Requests to abort
        a job are also in the queue's table, where the worker finds them within five seconds.
        """
        loop = asyncio.get_running_loop()
        pending: asyncio.Task[None] | None = None
        last = 0.0

        async def wake_later(channel: str) -> None:
            nonlocal last
            await asyncio.sleep(last + MIN_WAKE_INTERVAL_S - loop.time())
            last = loop.time()
            await on_notification(channel=channel, payload=INSERTED)

        async def wake(*, channel: str, payload: str) -> None:  # noqa: ARG001
            nonlocal pending
            if pending is None or pending.done():
                pending = loop.create_task(wake_later(channel))

        try:
            await super().listen_notify(wake, channels)
        finally:
            if pending:
                pending.cancel()

    async def execute_query_async(self, query: LiteralString, **arguments: Any) -> None:
        """Once more where the connection breaks: how a job ended, unsaid, would close its patient's line until the rescue."""
        try:
            return await super().execute_query_async(query, **arguments)
        except exceptions.ConnectorException as error:
            if not is_connection_lost(error.__cause__):
                raise
        try:
            await super().execute_query_async(query, **arguments)
        except exceptions.ConnectorException as error:
            if not isinstance(error.__cause__, psycopg.errors.RaiseException):
                raise  # else it was done the first time, and only the answer was lost


def is_connection_lost(error: BaseException | None) -> bool:
    """No connection could be had or it broke, or the server is going down or coming up."""
    if not isinstance(error, psycopg.Error):
        return False
    return error.sqlstate is None or error.sqlstate[:3] == "57P" or error.sqlstate[:2] == "08"


async def _configure(connection: psycopg.AsyncConnection[Any]) -> None:
    """Each statement is a transaction of its own, so none needs a BEGIN and a COMMIT around it."""
    await connection.set_autocommit(True)
    connection.prepare_threshold = 1


def connector(settings: Settings) -> Connector:
    """How the worker reaches the database; not open yet."""
    return Connector(
        conninfo=settings.worker_database_url,
        min_size=2,
        max_size=8,
        timeout=5,
        # Else the pool waits ever longer after a failure, and is away as long again as the database was.
        reconnect_timeout=1,
        reconnect_failed=psycopg_pool.AsyncConnectionPool.check,
        configure=_configure,
        kwargs={"application_name": "claims-worker", "connect_timeout": 2},
    )


class App(procrastinate.App):
    """Procrastinate's own worker ends at the first error of the database; this one starts again, later each time."""

    @property
    def pool(self) -> Pool:
        """What jobs run their statements through."""
        return self.connector.work  # type: ignore[attr-defined]

    @property
    def queue_pool(self) -> psycopg_pool.AsyncConnectionPool[Any]:
        """The queue's own, without a bound on how long a statement takes."""
        return self.connector.pool  # type: ignore[attr-defined]

    async def run_worker_async(self, **options: Any) -> None:
        """Until it is told to stop; with wait=False until there is nothing left to do."""
        self.perform_import_paths()  # type: ignore[no-untyped-call]
        if not options.get("wait", True):
            return await super().run_worker_async(**options)
        background_tasks = [
            asyncio.create_task(one) for one in (self._rescue(), self._apply_totals(), self._flush_denials())
        ]
        try:
            await self._run_with_restart(options)
        finally:
            for one in background_tasks:
                one.cancel()
        return None

    async def _run_with_restart(self, options: dict[str, Any]) -> None:
        stopping = asyncio.Event()
        backoff = Backoff(INITIAL_BACKOFF_S, MAX_BACKOFF_S, RESET_BACKOFF_AFTER_S)
        with signals.on_stop(stopping.set):
            while not stopping.is_set():
                backoff.start()
                worker = self._worker(**options | {"install_signal_handlers": False})
                stopper = asyncio.create_task(_when(stopping, worker.stop))
                try:
                    await worker.run()  # type: ignore[no-untyped-call]
                except exceptions.ConnectorException as error:
                    log.warning("the worker lost the database (%s)", type(error.__cause__ or error).__name__)
                finally:
                    stopper.cancel()
                if stopping.is_set():
                    return
                wait_s = backoff.next_wait_s()
                log.warning("the worker starts again in %g s", wait_s)
                await _within(wait_s, stopping)
                await self._check_pool()

    async def _check_pool(self) -> None:
        """Connections that are dead go, so that no statement finds out."""
        try:
            await self.queue_pool.check()
        except Exception as error:
            log.warning("the database is not back (%s)", type(error).__name__)

    async def _rescue(self) -> None:
        """What other workers left behind, and what this one could not finish."""
        given = {"stalled_after": f"{STALLED_AFTER} s", "overdue_after": f"{OVERDUE_AFTER_S} s"}
        while True:
            await asyncio.sleep(RESCUE_INTERVAL_S)
            try:
                ((rescued,),) = (await self.pool.fetch([(queries.rescue.text(given), given)]))[0]
                if rescued:
                    log.warning("%d jobs that nobody worked on any more stand in the queue again", rescued)
            except Exception as error:
                log.warning("no rescue this time (%s)", type(error).__name__)

    async def _apply_totals(self) -> None:
        """Changes of claims into the tallies of statistics, in a tenth of the time at most: each organization is asked."""
        loop, took = asyncio.get_running_loop(), 0.0
        while True:
            await asyncio.sleep(max(TOTALS_INTERVAL_S, 9 * took))
            began = loop.time()
            try:
                await self.pool.fetch([(queries.apply_totals.text({}), {})])
            except Exception as error:
                log.warning("nothing folded this time (%s)", type(error).__name__)
            took = loop.time() - began

    async def _flush_denials(self) -> None:
        """Denials that were only counted, into the trail once their minute has ended; at once again where more wait."""
        given = {"at_most": MAX_FLUSHED_USERS}
        closed = 0
        while True:
            await asyncio.sleep(0 if closed == MAX_FLUSHED_USERS else FLUSH_DENIALS_INTERVAL_S)
            closed = 0
            try:
                ((closed,),) = (await self.pool.fetch([(queries.flush_denials.text(given), given)]))[0]
            except Exception as error:
                log.warning("no denials closed this time (%s)", type(error).__name__)


async def _when(event: asyncio.Event, call: Any) -> None:
    await event.wait()
    call()


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Waits for the event, so long at most."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
