"""Claim totals: statistics equal a count of the claims in every snapshot, under writers, batches and crashes."""

import asyncio
import json
import random
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from threading import Event

import psycopg
import pytest
from psycopg import IsolationLevel
from psycopg.types.string import TextLoader

from app.database import statements
from app.database.context import BEGIN_CONTEXT
from app.database.schema_files import SQL
from app.dev.postgres import binaries
from app.operations import migrate
from tests.http.test_end_to_end import worker  # noqa: F401
from tests.support.cast import sign_context
from tests.support.clients import until

STATS = statements.load("claims").stats
COUNTED = """
with seen as (
    select c.status, count(*) as count, sum(c.amount_cents) as cents,
           count(*) filter (where c.decision is not null) as decided,
           count(*) filter (where c.decision = 'approved') as approved,
           count(c.first_decided_at) as timed,
           sum(extract(epoch from c.first_decided_at - c.submitted_at)) as seconds
    from claims c
    where c.service_date >= coalesce(%(service_date_from)s, '-infinity'::date)
      and c.service_date <= coalesce(%(service_date_to)s, 'infinity'::date)
    group by c.status
)
select json_build_object(
    'byStatus', json_object_agg(s.status, json_build_object(
        'count', coalesce(seen.count, 0),
        'amount', from_cents(coalesce(seen.cents, 0)::bigint))),
    'total', json_build_object(
        'count', coalesce(sum(seen.count), 0)::bigint,
        'amount', from_cents(coalesce(sum(seen.cents), 0)::bigint)),
    'approvalRate', round(sum(seen.approved) / nullif(sum(seen.decided), 0), 4),
    'averageProcessingHours', round(sum(seen.seconds) / nullif(sum(seen.timed), 0) / 3600, 2))
from claim_statuses() as s (status)
left join seen on seen.status = s.status"""
"""The statistics, counted from the claims that the caller sees."""

DAY = date(2026, 1, 1)
ALL_DAYS = {"service_date_from": None, "service_date_to": None}
DAYS = [
    {"service_date_from": DAY, "service_date_to": DAY + timedelta(days=1)},
    ALL_DAYS | {"service_date_to": DAY},
    ALL_DAYS,
]
CLAIM = """
insert into claims (patient_id, provider_id, diagnosis_code, amount_cents, service_date, status)
values (%(patient)s, %(provider)s, 'I10', %(cents)s, %(day)s, %(status)s) returning claim_id"""
MOVE = "update claims set status = %s, status_reason = 'x', denial_reason = 'x' where claim_id = %s"
OPEN, KEPT = "select count(*) from claim_total_changes", "select count(*) from claim_totals"
LIVES = [
    "",
    "under_review",
    "approved",
    "approved paid",
    "rejected",
    "rejected appealed",
    "voided",
    "approved paid reversed",
]
WRITERS, ROUNDS = 16, 12


def claim(who, pair=("tom", "ana"), cents=12_550, day=0, status="submitted"):
    patient, provider = pair
    ids = {"patient": who.ids[f"{patient}_patient"], "provider": who.ids[f"{provider}_provider"]}
    return ids | {"cents": cents, "day": DAY + timedelta(days=day), "status": status}


@contextmanager
def acting(settings, who, name, snapshot=None):
    """A transaction as the API opens it for this user, committed at the end. A wait of a second for a lock is an error."""
    with psycopg.connect(settings.api_database_url, options="-c lock_timeout=1s") as connection:
        connection.isolation_level = snapshot
        connection.execute(BEGIN_CONTEXT, sign_context(who, name))
        yield connection


def stats(settings, who, name, days=ALL_DAYS):
    """The statistics of this user, checked against the claims in the same snapshot."""
    with acting(settings, who, name, IsolationLevel.REPEATABLE_READ) as connection:
        connection.adapters.register_loader("json", TextLoader)
        statistics, counted = (
            json.loads(connection.execute(text, days).fetchone()[0], parse_float=str)
            for text in (STATS.text(days), COUNTED)
        )
    assert statistics == counted, (name, days)
    return statistics


def seen(settings, who, names=("alma", "ana", "ben")):
    """The number of claims in each user's statistics, all of which are checked against the claims."""
    return {name: [stats(settings, who, name, days) for days in DAYS][-1]["total"]["count"] for name in names}


def apply_changes(settings, at_most=10_000):
    """Applies changes in a transaction of its own, and returns their number."""
    with psycopg.connect(settings.worker_database_url) as connection:
        return connection.execute("select app.apply_all_total_changes(%s)", [at_most]).fetchone()[0]


def rows(connection, query):
    return connection.execute(query).fetchone()[0]


def verify(settings):
    """The output of sql/operations/verify_totals.sql, by lines."""
    command = [
        binaries() / "psql",
        settings.database_url,
        "-qXAt",
        "-f",
        SQL / "operations" / "verify_totals.sql",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def claims(settings, as_root, cast):
    """Claims of ana and ben in every status that a claim can have. Some of their changes are applied, some not."""
    created = []
    with acting(settings, cast, "alma") as alma:
        for n, life in enumerate(LIVES * 2):
            new = claim(cast, [("tom", "ana"), ("tina", "ben")][n % 2], cents=100 + n, day=n % 3)
            created.append((alma.execute(CLAIM, new).fetchone()[0], life))
        alma.execute(CLAIM, claim(cast, status="draft"))
    # Another transaction: within the same a decision would have taken no time.
    with acting(settings, cast, "alma") as alma:
        for claim_id, life in created:
            for status in life.split():
                assert alma.execute(MOVE, [status, claim_id]).rowcount == 1
    assert apply_changes(settings, 20) > 0
    assert rows(as_root, OPEN) > 0
    return created


def test_statistics_equal_the_counted_claims_for_every_user(settings, as_root, cast, other, claims):
    assert seen(settings, cast, ("alma", "pia", "ana", "ben", "tom", "tina")) == {
        "alma": 19, "pia": 1, "ana": 10, "ben": 9, "tom": 9, "tina": 9
    }  # fmt: skip
    statistics = stats(settings, cast, "alma")
    assert None not in statistics.values()
    assert float(statistics["averageProcessingHours"]) >= 0
    assert seen(settings, other) == {"alma": 2, "ana": 1, "ben": 1}  # no claim of south was updated
    while apply_changes(settings, 20):
        assert seen(settings, cast)["alma"] == 19
    assert rows(as_root, OPEN) == 0
    assert rows(as_root, "select count(*) from claim_totals where count <= 0") == 0  # totals of no claim are deleted
    assert verify(settings) == []


def test_every_day_and_status_is_read_from_totals(settings, as_root, cast, claims):
    """Control of every test here: a wrong total is found."""
    as_root.execute("update claim_totals set count = count + 1")
    with pytest.raises(AssertionError):
        stats(settings, cast, "alma")
    with pytest.raises(AssertionError):
        stats(settings, cast, "ana")
    stats(settings, cast, "pia")
    assert len(verify(settings)) == rows(as_root, KEPT)


class Writer:
    """A user who writes claims at random, and rolls back a quarter of the writes."""

    def __init__(self, settings, who, number, event):
        self._settings, self._who, self._event = settings, who, event
        self._name = ("alma", "ana", "ben")[number % 3]
        self._random = random.Random(number)
        self._mine = []
        self.did = Counter()

    def __call__(self):
        for _ in range(ROUNDS):
            what = self._random.choice([self._create, self._move, self._bulk, self._import, self._note, self._job])
            what = what if self._mine else self._create
            with (
                suppress(psycopg.errors.DeadlockDetected),
                psycopg.connect(self._settings.api_database_url) as connection,
            ):
                connection.execute(BEGIN_CONTEXT, sign_context(self._who, self._name))
                before = list(self._mine)
                what(connection)
                if rolled_back := self._random.random() < 0.25:
                    connection.rollback()
                    self._mine = before
                self.did[f"{what.__name__}{' rolled back' * rolled_back}"] += 1
        return self.did

    def _new(self):
        pair = {"ana": ("tom", "ana"), "ben": ("tina", "ben")}.get(self._name) or self._random.choice(
            [("tom", "ana"), ("tina", "ana")]
        )
        return claim(self._who, pair, self._random.randint(1, 9_999), self._random.randint(0, 2))

    def _create(self, connection):
        self._mine += [connection.execute(CLAIM, self._new()).fetchone()[0] for _ in range(3)]

    def _move(self, connection):
        status = self._random.choice(
            ["voided"] if self._name != "alma" else ["under_review", "approved", "rejected", "voided"]
        )
        with suppress(psycopg.Error), connection.transaction():
            connection.execute(MOVE, [status, self._random.choice(self._mine)])

    def _bulk(self, connection):
        if self._name == "alma":
            connection.execute("select update_status_bulk(%s, 'approved', null, null)", [self._mine])

    def _import(self, connection):
        line = {key: str(value) for key, value in self._new().items()}
        lines = [{"line": n, "patient_id": line["patient"], "provider_id": line["provider"], "diagnosis_code": "I10",
                  "amount_cents": line["cents"], "service_date": line["day"], "status": "submitted"} for n in (1, 2)]  # fmt: skip
        connection.execute("select * from import_claims(%s, null)", [json.dumps(lines)])

    def _note(self, connection):
        connection.execute(
            "update claims set notes = 'x' where claim_id = any (%s) and status = 'submitted'", [self._mine[-1:]]
        )

    def _job(self, _connection):
        """An admission as its job applies it: all of a patient's claims with one statement."""
        with psycopg.connect(self._settings.worker_database_url) as job:
            begin = "select set_config('role', context.begin_job(%s, %s), true)"
            job.execute(begin, [self._who.organization, self._event])
            claims = (
                "array(select claim_id from claims where status = 'submitted' order by claim_id limit 5 for update)"
            )
            job.execute(f"select move_claims_for_event({claims}, 'under_review', %s)", [self._event])
            if self._random.random() < 0.25:
                job.rollback()


def test_totals_stay_exact_under_sixteen_writers_while_changes_are_applied(settings, as_root, cast, other):
    over = Event()

    def meanwhile(what):
        done = []
        while not over.is_set():
            done.append(what())
        return done

    before = seen(settings, other)
    with ThreadPoolExecutor(WRITERS + 4) as threads:
        readers = [
            threads.submit(meanwhile, lambda name=name: stats(settings, cast, name)) for name in ("alma", "ana", "ben")
        ]
        applier = threads.submit(meanwhile, lambda: apply_changes(settings, 7))
        writers = [threads.submit(Writer(settings, cast, number, cast.toms_event)) for number in range(WRITERS)]
        try:
            did = sum((one.result() for one in writers), Counter())
        finally:
            over.set()
        statistics = [{one["total"]["count"] for one in reader.result()} for reader in readers]
        batches = [many for many in applier.result() if many]
    assert len(did) >= 10, did  # of all kinds, committed and rolled back
    assert min(map(len, statistics)) > 3  # the compared totals did change meanwhile
    assert len(batches) > 5
    assert seen(settings, cast)["alma"] == rows(
        as_root, f"select count(*) from claims where organization_id = '{cast.organization}'"
    )
    while apply_changes(settings):
        pass
    seen(settings, cast)
    assert verify(settings) == []
    assert seen(settings, other) == before


def test_writers_of_one_day_and_status_do_not_wait(settings, as_root, cast):
    apply_changes(settings)
    before = seen(settings, cast)
    with acting(settings, cast, "alma") as alma, acting(settings, cast, "ana") as ana:
        alma.execute(CLAIM, claim(cast))
        ana.execute(CLAIM, claim(cast))
        alma.execute(MOVE, ["voided", cast.bens_claim])
        assert seen(settings, cast) == before  # readers do not wait either; nothing is committed yet
        assert apply_changes(settings) == 0
    assert seen(settings, cast) == {"alma": before["alma"] + 2, "ana": before["ana"] + 2, "ben": before["ben"]}
    assert apply_changes(settings) == 4
    shared = "update claim_totals set count = count + 1"
    with psycopg.connect(settings.database_url, options="-c search_path=app -c lock_timeout=100ms") as second:
        with as_root.transaction(force_rollback=True):
            as_root.execute(shared)
            with pytest.raises(psycopg.errors.LockNotAvailable):
                second.execute(shared)  # control: with a shared counter the second writer would wait
        second.rollback()


def test_a_running_batch_delays_no_writer_and_a_second_batch_does_nothing(settings, as_root, cast, claims):
    before = seen(settings, cast)
    with psycopg.connect(settings.worker_database_url) as first:
        many = rows(first, "select app.apply_all_total_changes()")
        assert many == rows(as_root, OPEN) > 0
        assert apply_changes(settings) == 0
        with acting(settings, cast, "ana") as ana:
            ana.execute(CLAIM, claim(cast))
        assert seen(settings, cast) == before | {"alma": before["alma"] + 1, "ana": before["ana"] + 1}
    assert rows(as_root, OPEN) == 1
    assert seen(settings, cast)["alma"] == before["alma"] + 1
    assert apply_changes(settings) == 1  # control: alone it applies the change


def test_a_batch_whose_backend_dies_has_applied_nothing(settings, as_root, cast, claims):
    before, left = seen(settings, cast), rows(as_root, OPEN)
    with suppress(psycopg.OperationalError), psycopg.connect(settings.worker_database_url) as applier:
        assert rows(applier, "select app.apply_all_total_changes()") == left > 0
        as_root.execute("select pg_terminate_backend(%s, 5000)", [applier.info.backend_pid])
        applier.execute("select 1")
    assert rows(as_root, OPEN) == left
    assert seen(settings, cast) == before
    assert apply_changes(settings) == left  # control: no lock is left for the next one
    assert seen(settings, cast) == before


def test_an_update_of_other_columns_leaves_no_change(settings, as_root, cast):
    apply_changes(settings)
    with acting(settings, cast, "alma") as alma:
        alma.execute("update claims set notes = 'x', status_reason = 'y'")
        alma.execute("update claims set assigned_to = %s", [cast.pia])
        assert rows(alma, OPEN) == 0
        alma.execute(MOVE, ["under_review", cast.anas_claim])
        assert rows(alma, OPEN) == 2  # control


def test_an_operators_own_statements_count_in_the_tenant_of_each_row(settings, as_root, cast, other):
    as_root.execute("update claims set amount_cents = amount_cents + 1")
    for who in (cast, other):
        assert stats(settings, who, "alma")["total"] == {"count": 2, "amount": "251.02"}
        assert stats(settings, who, "ben")["total"] == {"count": 1, "amount": "125.51"}
    apply_changes(settings)
    assert verify(settings) == []
    as_root.execute("delete from claim_status_history")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):  # so no trigger has to handle a deleted claim
        as_root.execute("delete from claims")


def test_a_rebuild_repairs_writes_without_triggers_and_waits_for_no_writer(settings, as_root, cast, other, claims):
    with as_root.transaction():
        as_root.execute("set local session_replication_role = replica")
        as_root.execute("update claims set amount_cents = amount_cents + 1, service_date = service_date - 1")
    assert len(verify(settings)) > 10
    with acting(settings, cast, "ana") as ana:
        ana.execute(CLAIM, claim(cast))
        as_root.execute("set lock_timeout = '1s'")
        assert rows(as_root, "select app.rebuild_claim_totals()") > 10
        assert verify(settings) == []
    assert seen(settings, cast)["alma"] == 20
    assert apply_changes(settings) > 0
    assert verify(settings) == []
    as_root.execute("delete from claim_totals")
    as_root.execute("select app.rebuild_claim_totals(%s)", [cast.organization])
    assert {line.split("|")[0] for line in verify(settings)} == {str(other.organization)}
    as_root.execute("set role claims_owner")
    # A part of the organizations would be worse.
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        as_root.execute("select app.rebuild_claim_totals()")


def test_claims_older_than_the_totals_are_counted(settings, as_root, cast, claims):
    as_root.execute("drop trigger claims_40_totals on claims; drop trigger claims_40_totals_update on claims")
    as_root.execute("delete from claim_totals; delete from claim_total_changes")
    as_root.execute("update schema_admin.state set files = 'of yesterday'")
    assert len(verify(settings)) > 0  # control
    migrate.apply(settings)
    assert verify(settings) == []
    assert seen(settings, cast)["alma"] == 19


async def test_a_worker_applies_changes_periodically(settings, as_root, cast, claims, worker):  # noqa: F811
    before = await asyncio.to_thread(seen, settings, cast)

    async def all_applied():
        return rows(as_root, OPEN) == 0

    await until(all_applied)
    assert seen(settings, cast) == before
    assert verify(settings) == []
