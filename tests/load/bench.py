"""`make bench`: every kind of request over the API, against the same statement in pgbench, and the cost of the policies.

The machine's other load changes, so the measurements alternate within one run: the API, then pgbench with the same statement in
four round trips, in one, and without policies. CPU is the kernel's count for the processes of API and PostgreSQL; CPU and ratios
are more reliable than rates. Arguments are names of operations, with a person after a colon to select one: `list "get:provider,
recent"`. If a response was no success, the exit code is 1 and RESULTS.md is not changed.
"""

import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import httpx
import psycopg

from app.database.context import ContextSigner
from app.operations import migrate
from tests.load import report
from tests.load.baseline import CLIENTS, Baseline, run_baseline, without_policies
from tests.load.context_signature import unsign
from tests.load.cpu import Cpu
from tests.load.dataset import Dataset, claim_count, dataset, tidy
from tests.load.harness import served
from tests.load.operations import OPERATIONS, Operation, Person, World, cast
from tests.load.wrk import Load, load

UNLIMITED = {"RATE_LIMIT_USER": "0", "RATE_LIMIT_ADDRESS": "0"}


@dataclass(frozen=True)
class Length:
    """Seconds of a measurement, number of rounds, numbers of connections. SHORT=1 checks that all of it runs."""

    seconds: float = 0.3
    rounds: int = 1
    connections: tuple[int, ...] = (CLIENTS,)

    @classmethod
    def from_environment(cls) -> "Length":
        """The length that the environment names."""
        if os.environ.get("SHORT"):
            return cls()
        connections = os.environ.get("CONNECTIONS", "1,16,64").split(",")
        return cls(
            float(os.environ.get("SECONDS", "4")), int(os.environ.get("ROUNDS", "3")), tuple(map(int, connections))
        )


@dataclass(frozen=True)
class Served:
    """The API in one measurement; CPU in milliseconds a request."""

    load: Load
    api: float
    postgres: float


@dataclass
class Row:
    """All measurements of one operation by one person: the API by connections, the baselines by their way."""

    operation: str
    person: str
    served: dict[int, list[Served]] = field(default_factory=dict)
    baselines: dict[str, list[Baseline]] = field(default_factory=dict)
    memory: float = 0.0
    doubled: list[Served] = field(default_factory=list)

    def to_baseline(self, way: str = "rls") -> float:
        """The API's rate divided by the baseline's, each with the measurement next to it."""
        pairs = zip(self.served[CLIENTS], self.baselines[way], strict=True)
        return statistics.median(one.load.rate / baseline.rate for one, baseline in pairs)

    def overhead(self, with_: str = "rls", without: str = "where") -> float:
        """PostgreSQL's CPU for a transaction with policies against the same without.

        The least of each, because other load of the machine only adds to it.
        """
        one, other = (min(baseline.cpu for baseline in self.baselines[way]) for way in (with_, without))
        return one / other


class Bench:
    """Measurements of one API over one data set."""

    def __init__(self, here: Dataset, world: World, api: Cpu, length: Length) -> None:
        self.here, self.world, self.api, self.length = here, world, api, length
        self.postgres = Cpu(here.postmaster)
        self.memory_before = api.memory()
        self.rows: dict[tuple[str, str], Row] = {}
        self.faults: list[str] = []
        self._signer = ContextSigner(*next(iter(here.settings.context_keys().items())))

    def row(self, operation: Operation, person: Person) -> Row:
        """The row of the operation and the person, created if there is none."""
        return self.rows.setdefault((operation.name, person.name), Row(operation.name, person.name))

    def serve(self, operation: Operation, person: Person, connections: int, seconds: float | None = None) -> Served:
        """Measures the API."""
        requests, headers = operation.requests(self.world, person), person.headers()
        before = self.api.spent(), self.postgres.quiet()
        done = load(self.world.address, requests, headers, connections, seconds or self.length.seconds)
        self._settle()
        after = self.api.spent(), self.postgres.quiet()
        if done.refused or done.broken:
            self.faults.append(f"{operation.name} by {person.name}, {connections} connections: {done}")
        return Served(done, *((late - early) / done.requests * 1000 for early, late in zip(before, after, strict=True)))

    def _settle(self) -> None:
        """Waits until the API has finished what was running when the load ended."""
        busy = "select count(*) from pg_stat_activity where usename = 'claims_api' and state <> 'idle'"
        while self.world.admin.execute(busy).fetchone() != (0,):
            time.sleep(0.01)

    def baseline(self, operation: Operation, person: Person, way: str) -> Baseline:
        """Measures pgbench; the row contains it under `way`. A way that begins with `where` is without policies."""
        caller, shape = person.caller, way.removesuffix(" unsigned")
        given = {
            **operation.given(self.world, person),
            "organization_id": caller.organization_id,
            "user_id": caller.user_id,
            "provider_id": person.provider_id,
        }
        script = operation.statement.script(shape, person.own)
        with without_policies(self.world.admin) if shape == "where" else nullcontext():
            signed = self._signer.sign_context(
                caller,
                request_id="bench",
                address="127.0.0.1",
                source="api",
                read_only=operation.statement.read_only,
            )
            return run_baseline(
                self.here.url,
                self.postgres,
                script,
                {**given, **signed, "proof": signed["proof"](0)},
                self.length.seconds,
            )

    def fill(self, operation: Operation, person: Person) -> None:
        """Fills a row: API and baselines alternately, then the API with fewer and more connections."""
        self._check(operation, person)
        row = self.row(operation, person)
        self.serve(operation, person, CLIENTS, min(self.length.seconds, 1))  # warm-up
        for _ in range(self.length.rounds):
            row.served.setdefault(CLIENTS, []).append(self.serve(operation, person, CLIENTS))
            for way in ("rls", "flush", "where") if operation.by_hand else ("rls", "flush"):
                row.baselines.setdefault(way, []).append(self.baseline(operation, person, way))
        for connections in self.length.connections:
            if connections != CLIENTS:
                row.served[connections] = [self.serve(operation, person, connections)]
        row.memory = self.api.memory()

    def fill_unsigned(self, operation: Operation, person: Person) -> None:
        """Adds the baselines without a required signature."""
        row = self.row(operation, person)
        for _ in range(self.length.rounds if operation.by_hand else 0):
            for way in ("rls unsigned", "where unsigned"):
                row.baselines.setdefault(way, []).append(self.baseline(operation, person, way))

    def _check(self, operation: Operation, person: Person) -> None:
        """Checks one response before thousands are counted."""
        method, path, body = operation.requests(self.world, person)[0]
        answer = httpx.request(method, self.world.address + path, content=body, headers=person.headers(), timeout=30)
        assert answer.status_code == operation.answer, f"{method} {path}: {answer.status_code} {answer.text}"
        assert operation.is_right(answer.json(), person), f"{method} {path}: {answer.text}"


@contextmanager
def bench(here: Dataset, length: Length) -> Iterator[Bench]:
    """A bench over a data set."""
    with psycopg.connect(here.url, autocommit=True) as admin, served(here.settings, **UNLIMITED) as (address, pid):
        yield Bench(here, World(address, admin, cast(admin)), Cpu(pid), length)


def chosen(names: list[str], world: World) -> list[tuple[Operation, Person]]:
    """The named operations, or all of them."""
    every = [(operation, person) for operation in OPERATIONS for person in operation.people(world)]
    return [
        (operation, person)
        for operation, person in every
        if not names or {operation.name, f"{operation.name}:{person.name}"} & set(names)
    ]


@contextmanager
def no_signatures(here: Dataset) -> Iterator[None]:
    """Requires no signatures of contexts meanwhile."""
    try:
        unsign(here.url)
        yield
    finally:
        with psycopg.connect(here.url) as admin:
            admin.execute("update schema_admin.state set catalog = 'unsigned'")  # so all files are applied again
        migrate.apply(here.settings)


def measure(one: Bench, names: list[str]) -> None:
    """Fills the rows and prints each one; the last are those without signatures and with two processes."""
    work = chosen(names, one.world)
    for operation, person in work:
        one.fill(operation, person)
        print(report.summary(one.row(operation, person)), flush=True)
    tidy(one.world.admin)
    with no_signatures(one.here):
        for operation, person in work:
            one.fill_unsigned(operation, person)
    tidy(one.world.admin)
    with served(one.here.settings, **UNLIMITED, PROCESSES="2") as (address, pid):
        two = Bench(one.here, World(address, one.world.admin, one.world.people), Cpu(pid), one.length)
        for operation, person in work:
            two.serve(operation, person, CLIENTS, min(one.length.seconds, 1))  # warm-up
            one.row(operation, person).doubled = [two.serve(operation, person, CLIENTS)]
        one.faults += two.faults
    tidy(one.world.admin)


def main(names: list[str]) -> int:
    """Prints the table. Writes RESULTS.md if everything was measured and every response was a success."""
    with dataset(claim_count()) as here, bench(here, Length.from_environment()) as one:
        head = report.head(one)
        print(head, flush=True)
        measure(one, names)
        print(f"\n{report.table(one)}\n")
        print("\n".join(one.faults) or "every response was a success")
        if not (names or one.faults):
            report.write(head, one)
        return int(bool(one.faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
