"""Every statement reads few rows beyond those that it returns, for every role, in the largest and in the smallest tenant.

PLANS_CLAIMS is the number of claims (30,000; `make plans` uses 300,000), half of them of one tenant. auto_explain reports every
plan that ran, those inside of functions, triggers and foreign keys included.
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
from tests.database import plan_cases as cases
from tests.database.plan_cases import EXEMPT, LARGEST, SMALLEST, Exempt, Person
from tests.support.cast import SIGNER
from tests.support.databases import load_all_codes, settings_for

CLAIMS = int(os.environ.get("PLANS_CLAIMS", "30000"))
FULL = CLAIMS > 100_000
TINY = 8
"""Pages: PostgreSQL reads a table of this size at once, whatever the plan."""
FEW = 100
"""Rows that a node may discard: a page and its neighbours."""
SOME = CLAIMS * 2 // 5
"""Rows, four fifths of the largest tenant's claims: the bound for a generic plan that PostgreSQL is forced to use.

So no such plan reads a whole tenant.
"""
QUIET = "-c auto_explain.log_min_duration=-1"
MODES = [
    ("force_custom_plan", (LARGEST, SMALLEST)),
    ("auto", (SMALLEST, LARGEST)),
    ("force_generic_plan", (SMALLEST, LARGEST)),
    *([("force_generic_plan", (LARGEST, SMALLEST))] if FULL else []),
]
"""Plan modes, each with the tenants in order: a generic plan is made for the first and kept for the second."""
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
"""The same as in jobs/execution.py, whose import requires a worker's settings."""
Node = dict[str, Any]


@pytest.fixture(scope="module")
def dataset(server_url: str, template: str) -> Iterator[Settings]:
    """A database with the data set; each plan of its logins is reported as a notice."""
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
                # All of 300,000 rows, and the same plans in every run.
                root.execute("set default_statistics_target = 1000")
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
    """Rows that a node of a plan read in vain."""

    rows: int
    what: str
    is_scan: bool = False


class WasteRule:
    """The rule for the waste of a plan. tenants: the tables that contain rows of tenants and are larger than TINY."""

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
                yield Waste(round(removed), f"discards {removed:.0f} rows of {table} for {given:.0f}")


def formatted(node: Node, depth: int = 0) -> str:
    """The plan as indented text."""
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
    return line + "".join(formatted(child, depth + 1) for child in node.get("Plans", ()))


class Seen(NamedTuple):
    """A plan that ran: of a statement itself, or of one within a function or a trigger."""

    query: str
    role: str
    person: str
    given: str
    text: str
    plan: Node


class PlanRecorder:
    """A connection of one login. Statements are prepared as in production, and rolled back."""

    def __init__(self, url: str, role: str, mode: str) -> None:
        self._connection = psycopg.connect(url, options=f"-c plan_cache_mode={mode}")
        self._connection.prepared_max = 10_000
        self._connection.add_notice_handler(lambda notice: self._notices.append(notice.message_primary or ""))
        self._notices: list[str] = []
        self._role = role
        self.ran: set[str] = set()

    def run(
        self, person: Person, context: tuple[str, Any], calls: Iterable[tuple[Statement, Any]], times: int
    ) -> Iterator[Seen]:
        """The plans of each statement's last run."""
        self._connection.rollback()
        begin, parameters = context
        # The time of a transaction does not advance: a signature from its start is valid to its end.
        self._connection.execute(begin, self._proven(parameters))
        for query, given in [(query, self._proven(SIGNER.sign_call(query, given))) for query, given in calls]:
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
        """The parameters with the proof for this backend, if they have one."""
        return (
            given | {"proof": given["proof"](self._connection.info.backend_pid)} if "proof" in (given or ()) else given
        )

    def _run_once(self, query: Statement, given: Any) -> None:
        text = f"/* {self._role} */ {query.text(given)}"
        if query.name.split(".")[1] in ("list", "list_newest", "count"):
            self._connection.execute(text, given, prepare=True)  # nothing to roll back
            self._connection.execute("show jit")  # closes the portal of the statement before, whose plan is then logged
            return
        with self._connection.transaction(force_rollback=True):
            self._connection.execute(text, given, prepare=True)

    def close(self) -> None:
        self._connection.close()


PRODUCT = ("admin", "claims_processor", "provider", "patient")
ROLES = (*PRODUCT, "anonymous", "system", "worker")


def calls_of(
    role: str, person: Person, *, in_every_order: bool
) -> tuple[tuple[str, Any], list[tuple[Statement, Any]]] | None:
    """The start of this user's context in that role, and the statements to run; None where the role is not the user's."""
    if role == "anonymous" and person.caller.role == "admin":
        return ("select 1", None), list(cases.anonymous_calls(person))
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
    assert {statement(query) for query, _ in asked} == may  # every statement that the matrix allows is run
    return (BEGIN_CONTEXT, context), asked


def statement(query: Statement) -> str:
    """The statement's name without its order."""
    return ".".join(query.name.split(".")[:2])


class PlanCheck:
    """The data set with its users, and the check of the plans of their statements."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        with psycopg.connect(settings.database_url, autocommit=True, options=f"-c search_path=app {QUIET}") as root:
            self._rule = WasteRule(root)
            self._people = {tenant: cases.people(root, tenant) for tenant in (LARGEST, SMALLEST)}
        self.judged: Counter[str] = Counter()
        self.ran: set[str] = set()
        self.used: dict[Exempt, int] = {}

    def _seen(self, role: str, mode: str, order: tuple[str, str]) -> Iterator[Seen]:
        """Plans of every statement as every user of a role, in one tenant and then in the other.

        With few claims a part only: lists in every order as the busiest user of the largest tenant alone.
        """
        url = self._settings.worker_database_url if role in ("system", "worker") else self._settings.api_database_url
        with closing(PlanRecorder(str(url), role, mode)) as recorder:
            for person in (*self._people[order[0]], *self._people[order[1]]):
                is_busy, is_custom = person.work == "busy", mode == "force_custom_plan"
                if not (FULL or is_busy or (is_custom and person.tenant == LARGEST)):
                    continue
                whole = mode != "force_generic_plan" if FULL else is_custom and is_busy and person.tenant == LARGEST
                # PostgreSQL makes five custom plans, and then decides whether a generic one is good enough.
                times = 6 if mode == "auto" and is_busy and person.tenant == order[0] else 1
                if coming := calls_of(role, person, in_every_order=whole):
                    yield from recorder.run(person, *coming, times)
            self.ran |= recorder.ran

    def faults(self, mode: str, order: tuple[str, str], roles: Iterable[str] = ROLES) -> list[str]:
        """One fault for each statement, role and choice of filters, with the plan."""
        found: dict[tuple[str, ...], str] = {}
        for seen in (seen for role in roles for seen in self._seen(role, mode, order)):
            self.judged[f"{mode}, {order[0]} first"] += 1
            for waste in self._rule.waste(seen.plan):
                if not self._is_allowed(seen, waste, mode):
                    key = (mode, order[0], seen.query, seen.role, seen.given)
                    found.setdefault(
                        key, f"{' / '.join(key)} ({seen.person}): {waste.what}\n{seen.text}{formatted(seen.plan)}"
                    )
        return list(found.values())

    def _is_allowed(self, seen: Seen, waste: Waste, mode: str) -> bool:
        if mode == "force_generic_plan" and (
            # The end of a count, and the prefix of a number, are unknown to a generic plan.
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
        """Exceptions that no plan needed."""
        return [line for line in EXEMPT if not line.scans and line.most[FULL] and line not in self.used]


def first_and_next_pages(person: Person) -> Iterator[tuple[Statement, Any]]:
    """The statements of most requests, and the count of a total."""
    after = json.dumps([person.rows["created_at"], person.rows["claim_id"]], default=str)
    status = {"status": "submitted"}
    for query in (statements.load("claims").list, statements.load("patients").list_newest):
        for more in ({}, status, {"after": after}, {**status, "after": after}):
            yield query, {"limit": 20, **more}
    yield statements.load("claims").count, status


def test_pages_are_not_planned_each_time(dataset: Settings) -> None:
    """Planning costs as much as a page. PostgreSQL plans at every execution if the estimate depends on a parameter's value."""
    with psycopg.connect(dataset.database_url, options=f"-c search_path=app {QUIET}") as root:
        people = [person for person in cases.people(root, LARGEST) if person.work == "busy"]
    with psycopg.connect(str(dataset.database_url), autocommit=True) as root:
        root.execute("grant execute on function pg_prepared_statement() to claims_api")  # in this test's database alone
    with psycopg.connect(str(dataset.api_database_url), options=QUIET, prepare_threshold=0, autocommit=True) as api:

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
        # Control: an offset as a parameter.
        assert run(people[0], [(statements.load("claims").list, {"limit": 20, "status": "submitted", "offset": 0})])


def test_every_statement_reads_little_more_than_it_gives(dataset: Settings) -> None:
    check = PlanCheck(dataset)
    faults = [fault for mode, order in MODES for fault in check.faults(mode, order)]
    print(dict(check.judged))
    assert not faults, f"{len(faults)} faults:\n\n" + "\n\n".join(faults)
    assert not (idle := check.unused()), "nothing needs these exceptions any more:\n" + "\n".join(map(str, idle))
    assert check.ran | {"queue.seal"} == {  # sealing reads the whole audit log the first time: NAME=audit measures it
        statement(one) for path in statements.QUERIES.glob("*.sql") for one in statements.load(path.stem).all.values()
    }
    # Control: a list without its index is found.
    with psycopg.connect(dataset.database_url, autocommit=True, options=QUIET) as root:
        root.execute("drop index app.claims_patient_newest, app.claims_patient_service_date")
    assert any("claims.list" in fault for fault in check.faults(*MODES[0], roles=["patient"]))


def test_no_single_index_decides_who_sees_a_claims_history(as_root: psycopg.Connection[Any]) -> None:
    """Otherwise PostgreSQL may read the index of all claims of a provider to its end, for every row of a claim's history."""
    asked = as_root.execute(
        "select a.attname, exists (select from pg_index i where i.indrelid = a.attrelid and a.attnum = any (i.indkey)) "
        "from pg_depend d join pg_policy p on d.classid = 'pg_policy'::regclass and d.objid = p.oid "
        "join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid "
        "where p.polname = 'claim_status_history_member_select' and d.refobjid = 'claims'::regclass order by 1"
    ).fetchall()
    assert asked == [("claim_id", True), ("version", False)]
