"""Procrastinate's worker, restarted after database errors. Its connection pool needs one round trip for a statement."""

import asyncio
import logging
from collections.abc import Callable, Iterable
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

HEARTBEAT_S, STALLED_AFTER_S = 2.0, 8.0
"""Interval of a worker's heartbeat, and the age of its last heartbeat from which on the worker counts as stalled."""
OVERDUE_AFTER_S = 6.0
"""A job that runs longer counts as lost, because claims_worker's statement_timeout ends every job after 3 s."""
RESCUE_INTERVAL_S, TOTALS_INTERVAL_S, FLUSH_DENIALS_INTERVAL_S = 1.0, 2.0, 5.0
MAX_FLUSHED_USERS = 100
"""Users whose counted denials one transaction writes to the audit log."""
MIN_WAKE_INTERVAL_S = 0.02
"""Minimum interval between two fetches of jobs that notifications cause."""
INSERTED = '{"type": "job_inserted", "job_id": 0}'
"""The notification that Procrastinate's worker receives in place of every incoming one."""
START_TIMEOUT_S = 10.0
"""How long a starting worker waits for the database."""
INITIAL_BACKOFF_S, MAX_BACKOFF_S, RESET_BACKOFF_AFTER_S = 0.25, 2.0, 10.0
"""The first wait before a failed worker restarts, the longest wait, and the run time that resets the waits."""


class Connector(PsycopgConnector):
    """Connects only if the schema is as expected and the login cannot bypass row-level security.

    The queue's own statements use psycopg's pool. The statements of jobs use `work`.
    """

    work: Pool

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._wake: Callable[[], None] | None = None
        self._followed: set[int] = set()

    def wake_after(self, job_id: int) -> None:
        """Makes the worker fetch jobs as soon as this job has ended. The next job of its patient waits for its lock until then."""
        self._followed.add(job_id)

    async def open_async(self, pool: psycopg_pool.AsyncConnectionPool[Any] | None = None) -> None:
        """Opens both pools. Raises UnsafeDatabase if a check fails or no connection succeeds within START_TIMEOUT_S."""
        await self._await_database()
        await super().open_async(pool)
        self.work = Pool(self._pool_args["conninfo"], size=8, name="claims-job", resets=False)
        await self.work.open()
        await check_database(self.work.fetch)

    async def _await_database(self) -> None:
        """Waits for the database. psycopg's pool would wait for 30 s and log two lines for each attempt."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_TIMEOUT_S
        while problem := await self._find_problem():
            if loop.time() > deadline:
                raise UnsafeDatabase(f"the worker can't start: the database {problem}")
            await asyncio.sleep(INITIAL_BACKOFF_S)

    async def _find_problem(self) -> str:
        """The reason why a connection fails; an empty string if it succeeds."""
        try:
            connection = await psycopg.AsyncConnection.connect(self._pool_args["conninfo"], connect_timeout=2)
        except psycopg.OperationalError as error:
            return connection_problem(error)
        await connection.close()
        return ""

    async def close_async(self) -> None:
        """Closes both pools."""
        await self.work.close()
        await super().close_async()

    async def _create_pool(self, pool_args: dict[str, Any]) -> psycopg_pool.AsyncConnectionPool[Any]:
        # Procrastinate's own pool checks a connection before each use, which adds a round trip to every statement.
        return psycopg_pool.AsyncConnectionPool(**pool_args, open=False)

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Wakes the worker for any notification and ignores its payload, because every login may send NOTIFY.

        Procrastinate ends its worker at a payload that is not its JSON, and cancels the job that a payload names. The worker also
        finds requests to abort a job in the queue's table, within five seconds.
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
            wake_soon(channel)

        def wake_soon(channel: str = "") -> None:
            nonlocal pending
            if pending is None or pending.done():
                pending = loop.create_task(wake_later(channel))

        self._wake = wake_soon
        try:
            await super().listen_notify(wake, channels)
        finally:
            self._wake = None
            if pending:
                pending.cancel()

    async def execute_query_async(self, query: LiteralString, **arguments: Any) -> None:
        """Retries once if the connection breaks. If a job's final status is lost, the patient's next jobs wait until it is rescued."""
        try:
            await self._execute_with_retry(query, **arguments)
        finally:
            if (job_id := arguments.get("job_id")) in self._followed:
                self._followed.discard(job_id)
                if self._wake:
                    self._wake()

    async def _execute_with_retry(self, query: LiteralString, **arguments: Any) -> None:
        try:
            return await super().execute_query_async(query, **arguments)
        except exceptions.ConnectorException as error:
            if not is_connection_lost(error.__cause__):
                raise
        try:
            await super().execute_query_async(query, **arguments)
        except exceptions.ConnectorException as error:
            if not isinstance(error.__cause__, psycopg.errors.RaiseException):
                raise  # a RaiseException means that the first call succeeded and only its result was lost


def is_connection_lost(error: BaseException | None) -> bool:
    """Whether the error is a failed or broken connection, or a server that is starting or stopping."""
    if not isinstance(error, psycopg.Error):
        return False
    return error.sqlstate is None or error.sqlstate[:3] == "57P" or error.sqlstate[:2] == "08"


async def _configure(connection: psycopg.AsyncConnection[Any]) -> None:
    """Sets autocommit, so that a statement needs no BEGIN and COMMIT around it."""
    await connection.set_autocommit(True)
    connection.prepare_threshold = 1


def connector(settings: Settings) -> Connector:
    """The worker's connector, not open yet."""
    return Connector(
        conninfo=settings.worker_database_url,
        min_size=2,
        max_size=8,
        timeout=5,
        # Bounds the pool's backoff. Without this bound, the pool stays offline about as long again as the database was.
        reconnect_timeout=1,
        reconnect_failed=psycopg_pool.AsyncConnectionPool.check,
        configure=_configure,
        kwargs={"application_name": "claims-worker", "connect_timeout": 2},
    )


class App(procrastinate.App):
    """Restarts the worker after database errors, with backoff. Procrastinate's own worker ends at the first one."""

    @property
    def pool(self) -> Pool:
        """The pool for the statements of jobs."""
        return self.connector.work  # type: ignore[attr-defined]

    def wake_after(self, job_id: int) -> None:
        """Makes the worker fetch jobs as soon as this job has ended."""
        self.connector.wake_after(job_id)  # type: ignore[attr-defined]

    @property
    def queue_pool(self) -> psycopg_pool.AsyncConnectionPool[Any]:
        """The queue's own pool. Unlike `pool`, it does not limit the duration of a statement."""
        return self.connector.pool  # type: ignore[attr-defined]

    async def run_worker_async(self, **options: Any) -> None:
        """Runs until it is stopped; with wait=False, until no job is left."""
        self.perform_import_paths()  # type: ignore[no-untyped-call]
        if not options.get("wait", True):
            return await super().run_worker_async(**options)
        background_tasks = [
            asyncio.create_task(loop) for loop in (self._rescue(), self._apply_totals(), self._flush_denials())
        ]
        try:
            await self._run_with_restart(options)
        finally:
            for task in background_tasks:
                task.cancel()
        return None

    async def _run_with_restart(self, options: dict[str, Any]) -> None:
        stopping = asyncio.Event()
        backoff = Backoff(INITIAL_BACKOFF_S, MAX_BACKOFF_S, RESET_BACKOFF_AFTER_S)
        with signals.on_stop(stopping.set):
            while not stopping.is_set():
                backoff.start()
                worker = self._worker(**options | {"install_signal_handlers": False})
                stopper = asyncio.create_task(_call_after(stopping, worker.stop))
                try:
                    await worker.run()  # type: ignore[no-untyped-call]
                except exceptions.ConnectorException as error:
                    log.warning("the worker lost the database (%s)", type(error.__cause__ or error).__name__)
                finally:
                    stopper.cancel()
                if stopping.is_set():
                    return
                wait_s = backoff.next_wait_s()
                log.warning("the worker restarts in %g s", wait_s)
                await _wait(stopping, wait_s)
                await self._check_pool()

    async def _check_pool(self) -> None:
        """Discards dead connections before a statement uses one."""
        try:
            await self.queue_pool.check()
        except Exception as error:
            log.warning("the database is still unavailable (%s)", type(error).__name__)

    async def _rescue(self) -> None:
        """Requeues jobs that other workers abandoned, and jobs whose end this worker could not report."""
        params = {"stalled_after": f"{STALLED_AFTER_S} s", "overdue_after": f"{OVERDUE_AFTER_S} s"}
        while True:
            await asyncio.sleep(RESCUE_INTERVAL_S)
            try:
                ((requeued,),) = (await self.pool.fetch([(queries.rescue.text(params), params)]))[0]
                if requeued:
                    log.warning("requeued %d abandoned jobs", requeued)
            except Exception as error:
                log.warning("rescue failed: %s", type(error).__name__)

    async def _apply_totals(self) -> None:
        """Applies pending changes of claims to the totals of statistics.

        Waits nine times as long as the last run took, because a run visits every organization.
        """
        loop, last_run_s = asyncio.get_running_loop(), 0.0
        while True:
            await asyncio.sleep(max(TOTALS_INTERVAL_S, 9 * last_run_s))
            started_at = loop.time()
            try:
                await self.pool.fetch([(queries.apply_totals.text({}), {})])
            except Exception as error:
                log.warning("applying the changes of totals failed: %s", type(error).__name__)
            last_run_s = loop.time() - started_at

    async def _flush_denials(self) -> None:
        """Writes counted denials to the audit log after their minute has ended. Continues at once after a full batch."""
        params = {"at_most": MAX_FLUSHED_USERS}
        flushed = 0
        while True:
            await asyncio.sleep(0 if flushed == MAX_FLUSHED_USERS else FLUSH_DENIALS_INTERVAL_S)
            flushed = 0
            try:
                ((flushed,),) = (await self.pool.fetch([(queries.flush_denials.text(params), params)]))[0]
            except Exception as error:
                log.warning("flushing counted denials failed: %s", type(error).__name__)


async def _call_after(event: asyncio.Event, call: Any) -> None:
    await event.wait()
    call()


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    """Waits for the event, at most timeout_s."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
