"""Every statement reads little more than it gives, whoever asks, in the largest tenant and in the smallest.

PLANS_CLAIMS claims in all (30,000; `make plans` takes 300,000), half of them one tenant's. auto_explain shows every plan that ran,
those inside of functions, triggers and foreign keys too.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import psycopg
import pytest

from app.config import Settings
from app.database import statements
from app.database.context import BEGIN_CONTEXT
from app.database.statements import Statement
from tests.conftest import SIGNER, load_all_codes, settings_for
from tests.database import plan_cases as cases
from tests.database.plan_cases import EXEMPT, LARGEST, SMALLEST, Exempt, Person

CLAIMS = int(os.environ.get("PLANS_CLAIMS", "30000"))
FULL = CLAIMS > 100_000
TINY = 8
"""Pages: a table that is no larger is read at once whatever the plan."""
FEW = 100
"""Rows: a page and its neighbours; so many may be thrown away for nothing."""
SOME = CLAIMS * 2 // 5
"""Rows, four fifths of the largest tenant's claims: as many by a generic plan that PostgreSQL was forced to and would not choose itself,
so that no such plan reads a whole tenant."""
QUIET = "-c auto_explain.log_min_duration=-1"
MODES = [
    ("force_custom_plan", (LARGEST, SMALLEST)),
    ("auto", (SMALLEST, LARGEST)),
    ("force_generic_plan", (SMALLEST, LARGEST)),
    *([("force_generic_plan", (LARGEST, SMALLEST))] if FULL else []),
]
"""How plans are made, and in whose context first: a generic plan is made for the first and kept for the second."""
WATCHED = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": 0,
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
}
ENTER_JOB = "select set_config('role', context.begin_job(%(organization_id)s, %(event_id)s), true)"
"""As jobs/execution.py has it; that module wants a worker's settings."""
Node = dict[str, Any]


@pytest.fixture(scope="module")
def planted(server_url: str, template: str) -> Iterator[Settings]:
    """A database with the data set, every plan of whose logins comes back as a notice."""
    name = f"claims_plans_{uuid4().hex[:8]}"
    settings = settings_for(server_url, name)
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"create database {name} template {template} strategy file_copy")
        try:
            admin.execute(f"grant connect on database {name} to claims_api, claims_worker")
            with psycopg.connect(settings.database_url, autocommit=True) as root:
                load_all_codes(root)
                root.execute(f"set plans.claims = {CLAIMS}")
                root.execute((Path(__file__).parent / "plans_data.sql").read_text())
                root.execute(
                    "set default_statistics_target = 1000"
                )  # all of 300,000 rows, and the same plans in every run
                root.execute("vacuum (analyze)")
            for setting, value in WATCHED.items():
                admin.execute(f"alter database {name} set {setting} = '{value}'")
            yield settings
        finally:
            admin.execute(f"drop database {name} with (force)")


def nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.get("Plans", ()):
        yield from nodes(child)


class Waste(NamedTuple):
    """So many rows that a node of a plan read for little."""

    rows: int
    what: str
    is_scan: bool = False


class Judge:
    """Says what a plan wastes. tenants: the tables that hold rows of tenants and are more than TINY."""

    def __init__(self, root: psycopg.Connection[Any]) -> None:
        pages = root.execute(
            "select c.relname, c.relpages, exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'organization_id') "
            "from pg_class c where c.relkind = 'r' and c.relnamespace in ('app'::regnamespace, 'auth'::regnamespace)"
        ).fetchall()
        self.tiny = {name for name, size, _ in pages if size <= TINY}
        self.tenants = {name for name, size, of_tenants in pages if of_tenants and size > TINY}

    def waste(self, plan: Node) -> Iterator[Waste]:
        for node in nodes(plan):
            table = node.get("Relation Name", node["Node Type"])
            loops = node.get("Actual Loops", 0)
            given = node.get("Actual Rows", 0) * loops
            removed = loops * sum(value for key, value in node.items() if key.startswith("Rows Removed by"))
            if node["Node Type"] == "Seq Scan" and table in self.tenants and loops:
                yield Waste(round(given + removed), f"reads {table} from end to end", is_scan=True)
            elif table not in self.tiny and removed > max(FEW, 10 * given):
                yield Waste(round(removed), f"throws away {removed:.0f} rows of {table} for {given:.0f}")


def drawn(node: Node, depth: int = 0) -> str:
    """The plan as one reads it."""
    shown = (
        "Index Name",
        "Index Cond",
        "Recheck Cond",
        "Filter",
        "Join Filter",
        "Actual Rows",
        "Actual Loops",
        "Rows Removed by Filter",
    )
    facts = ", ".join(f"{key}: {node[key]}" for key in shown if key in node)
    line = f"\n{'  ' * depth}{node['Node Type']} {node.get('Relation Name', '')} [{facts}]"
    return line + "".join(drawn(child, depth + 1) for child in node.get("Plans", ()))


class Seen(NamedTuple):
    """One plan that ran: of a query itself, or of what a function or a trigger ran within."""

    query: str
    role: str
    person: str
    given: str
    text: str
    plan: Node


class ConnectionMonitor:
    """A connection of one login, on which statements are prepared as in production and undone as soon as they ran."""

    def __init__(self, url: str, role: str, mode: str) -> None:
        self._connection = psycopg.connect(url, options=f"-c plan_cache_mode={mode}")
        self._connection.prepared_max = 10_000
        self._connection.add_notice_handler(lambda notice: self._notices.append(notice.message_primary or ""))
        self._notices: list[str] = []
        self._role = role
        self.ran: set[str] = set()

    def run(
        self, person: Person, enter: tuple[str, Any], asked: Iterable[tuple[Statement, Any]], times: int
    ) -> Iterator[Seen]:
        """The plans of each statement's last run of so many."""
        self._connection.rollback()
        sign_context, context = enter
        # A transaction's time stands still: what is signed as it begins holds to its end.
        self._connection.execute(sign_context, self._proven(context))
        for query, given in [(query, self._proven(SIGNER.sign_call(query, given))) for query, given in asked]:
            for _ in range(times):
                self._notices.clear()
                try:
                    self._run_once(query, given)
                except psycopg.DatabaseError as error:
                    if person.work == "busy" or error.sqlstate not in ("INVAL", "CLASH"):
                        raise AssertionError(f"{query.name} as {self._role} {person.tenant}: {error}") from error
            self.ran.add(statement(query))
            filters = ", ".join(sorted(option for option in query.options if given.get(option) is not None))
            for notice in self._notices:
                duration, _, explained = notice.partition("plan:\n")
                if duration.startswith("duration:"):
                    shown = json.loads(explained)
                    who = f"{person.work} in {person.tenant}"
                    yield Seen(query.name, self._role, who, filters, shown["Query Text"], shown["Plan"])

    def _proven(self, given: Any) -> Any:
        """With the proof for this backend where there is to be one."""
        return (
            given | {"proof": given["proof"](self._connection.info.backend_pid)} if "proof" in (given or ()) else given
        )

    def _run_once(self, query: Statement, given: Any) -> None:
        text = f"/* {self._role} */ {query.text(given)}"
        if query.name.split(".")[1] in ("list", "list_newest", "count"):
            self._connection.execute(text, given, prepare=True)  # nothing to undo
            self._connection.execute("show jit")  # ends the portal before: its plan is logged then
            return
        with self._connection.transaction(force_rollback=True):
            self._connection.execute(text, given, prepare=True)

    def close(self) -> None:
        self._connection.close()


PRODUCT = ("admin", "claims_processor", "provider", "patient")
ROLES = (*PRODUCT, "door", "system", "worker")


def asked_by(
    role: str, person: Person, *, in_every_order: bool
) -> tuple[tuple[str, Any], list[tuple[Statement, Any]]] | None:
    """How this person comes in in that role, and what is asked then; None where it does not."""
    if role == "door" and person.caller.role == "admin":
        return ("select 1", None), list(cases.at_the_door(person))
    if role == "system" and "discharge_cancelled" in (person.rows["events"] or {}):
        event = {"organization_id": person.caller.organization_id, "event_id": person.rows["events"]["admission"]}
        return (ENTER_JOB, event), list(cases.of_jobs(person))
    if role == "worker" and (person.tenant, person.caller.role, person.work) == (LARGEST, "admin", "busy"):
        return ("select 1", None), list(cases.of_workers())
    if role != person.caller.role:
        return None
    context = SIGNER.sign_context(person.caller, request_id="plans", address="", source="api", read_only=False)
    may = cases.run_by(role)
    asked = [
        (query, given)
        for query, given in cases.everything(person, in_every_order=in_every_order)
        if statement(query) in may
    ]
    assert {statement(query) for query, _ in asked} == may  # nothing that the matrix allows goes unseen
    return (BEGIN_CONTEXT, context), asked


def statement(query: Statement) -> str:
    """Its name, whatever the order."""
    return ".".join(query.name.split(".")[:2])


class Court:
    """The data set with its people, and the judge of what they ask."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        with psycopg.connect(settings.database_url, autocommit=True, options=f"-c search_path=app {QUIET}") as root:
            self._judge = Judge(root)
            self._people = {tenant: cases.people(root, tenant) for tenant in (LARGEST, SMALLEST)}
        self.judged: Counter[str] = Counter()
        self.ran: set[str] = set()
        self.used: dict[Exempt, int] = {}

    def _seen(self, role: str, mode: str, order: tuple[str, str]) -> Iterator[Seen]:
        """Every statement as everybody of a role, in the one tenant and then in the other.

        With few claims not all of it: lists in every order as the busiest of the largest tenant only.
        """
        url = self._settings.worker_database_url if role in ("system", "worker") else self._settings.api_database_url
        with closing(ConnectionMonitor(str(url), role, mode)) as watch:
            for person in (*self._people[order[0]], *self._people[order[1]]):
                is_busy, is_custom = person.work == "busy", mode == "force_custom_plan"
                if not (FULL or is_busy or (is_custom and person.tenant == LARGEST)):
                    continue
                whole = mode != "force_generic_plan" if FULL else is_custom and is_busy and person.tenant == LARGEST
                # Five plans are made for what is asked, and then PostgreSQL decides whether one for everything will do.
                times = 6 if mode == "auto" and is_busy and person.tenant == order[0] else 1
                if coming := asked_by(role, person, in_every_order=whole):
                    yield from watch.run(person, *coming, times)
            self.ran |= watch.ran

    def faults(self, mode: str, order: tuple[str, str], roles: Iterable[str] = ROLES) -> list[str]:
        """One of each statement, role and choice of filters, with the plan."""
        found: dict[tuple[str, ...], str] = {}
        for seen in (seen for role in roles for seen in self._seen(role, mode, order)):
            self.judged[f"{mode}, {order[0]} first"] += 1
            for waste in self._judge.waste(seen.plan):
                if not self._is_allowed(seen, waste, mode):
                    key = (mode, order[0], seen.query, seen.role, seen.given)
                    found.setdefault(
                        key, f"{' / '.join(key)} ({seen.person}): {waste.what}\n{seen.text}{drawn(seen.plan)}"
                    )
        return list(found.values())

    def _is_allowed(self, seen: Seen, waste: Waste, mode: str) -> bool:
        if mode == "force_generic_plan" and (
            # How far a count goes, and what a number begins with, is not known yet.
            waste.rows <= SOME or seen.query.endswith(".count") or "claim_number" in seen.given
        ):
            return True
        for line in EXEMPT:
            if line.scans == waste.is_scan and all(
                map(fnmatchcase, (seen.query, seen.role, seen.given), (line.query, line.role, line.filters))
            ):
                self.used[line] = max(self.used.get(line, 0), waste.rows)
                return waste.rows <= line.most[FULL]
        return False

    def unused(self) -> list[Exempt]:
        """Lines that nothing needed."""
        return [line for line in EXEMPT if not line.scans and line.most[FULL] and line not in self.used]


def first_and_next_pages(person: Person) -> Iterator[tuple[Statement, Any]]:
    """As most callers ask for them, and what a total is counted by."""
    after = json.dumps([person.rows["created_at"], person.rows["claim_id"]], default=str)
    status = {"status": "submitted"}
    for query in (statements.load("claims").list, statements.load("patients").list_newest):
        for more in ({}, status, {"after": after}, {**status, "after": after}):
            yield query, {"limit": 20, **more}
    yield statements.load("claims").count, status


def test_pages_are_not_planned_each_time(planted: Settings) -> None:
    """Planning costs as much as a page; PostgreSQL does it at every execution where a parameter's value changes what it expects."""
    with psycopg.connect(planted.database_url, options=f"-c search_path=app {QUIET}") as root:
        people = [person for person in cases.people(root, LARGEST) if person.work == "busy"]
    with psycopg.connect(str(planted.database_url), autocommit=True) as root:
        root.execute("grant execute on function pg_prepared_statement() to claims_api")  # in this test's database alone
    with psycopg.connect(str(planted.api_database_url), options=QUIET, prepare_threshold=0, autocommit=True) as api:

        def run(person: Person, asked: Iterable[tuple[Statement, Any]]) -> list[Any]:
            context = SIGNER.sign_context(person.caller, request_id="plans", address="", source="api", read_only=True)
            context["proof"] = context["proof"](api.info.backend_pid)
            for query, given in asked:
                for _ in range(8):
                    with api.transaction():
                        api.execute(BEGIN_CONTEXT, context)
                        api.execute(f"/* {person.caller.role} */ {query.text(given)}", given)
            return api.execute("select statement from pg_prepared_statements where custom_plans > 5").fetchall()

        for person in people:
            assert not run(person, first_and_next_pages(person))
        # Control: an offset that is a parameter.
        assert run(people[0], [(statements.load("claims").list, {"limit": 20, "status": "submitted", "offset": 0})])


def test_every_statement_reads_little_more_than_it_gives(planted: Settings) -> None:
    court = Court(planted)
    faults = [fault for mode, order in MODES for fault in court.faults(mode, order)]
    print(dict(court.judged))
    assert not faults, f"{len(faults)} faults:\n\n" + "\n\n".join(faults)
    assert not (idle := court.unused()), "nothing needs these exceptions any more:\n" + "\n".join(map(str, idle))
    assert court.ran | {"queue.seal"} == {  # sealing reads the whole trail the first time: bench-audit has it
        statement(one) for path in statements.QUERIES.glob("*.sql") for one in statements.load(path.stem).all.values()
    }
    # Control: a list without its index is found.
    with psycopg.connect(planted.database_url, autocommit=True, options=QUIET) as root:
        root.execute("drop index app.claims_patient_newest")
    assert any("claims.list" in fault for fault in court.faults(*MODES[0], roles=["patient"]))


def test_no_index_alone_says_whose_history_a_claim_is(as_root: psycopg.Connection[Any]) -> None:
    """Else PostgreSQL may take the one of all claims of a provider, and read it from end to end for every row of a claim's history."""
    asked = as_root.execute(
        "select a.attname, exists (select from pg_index i where i.indrelid = a.attrelid and a.attnum = any (i.indkey)) "
        "from pg_depend d join pg_policy p on d.classid = 'pg_policy'::regclass and d.objid = p.oid "
        "join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid "
        "where p.polname = 'claim_status_history_member_select' and d.refobjid = 'claims'::regclass order by 1"
    ).fetchall()
    assert asked == [("claim_id", True), ("version", False)]
