"""Oracles: injected SQL never reveals whether a row exists that its caller may not read. Both cases of a pair look alike.

Every statement runs with a variable of the context changed by hand, to another tenant or to another member's id. It runs once
over a value of a hidden row and once over a value of no row.
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import psycopg
import pytest

from tests.security.policies.scenarios import SETS
from tests.security.test_isolation import NOT_EVEN_OWN, TABLES
from tests.support.cast import Cast

PEOPLE = ("alma", "pia", "ana", "tom")
PRODUCT = ("claims_admin", "claims_processor", "claims_provider", "claims_patient")
UNVERIFIED = "28000 context not verified"
TYPES = "{uuid,text,int8,int4,date,timestamptz,bytea}"
ABSENT = {
    "uuid": "'00000000-0000-4000-8000-000000000000'::uuid", "text": "'absent'", "int8": "-987654321::bigint", "int4": "-98765",
    "date": "'1801-01-01'::date", "timestamptz": "'1801-01-01'::timestamptz", "bytea": "'\\x00'::bytea",
}  # fmt: skip
"""A value of each type that no row contains."""
PLANS = {
    "as the planner likes": "",
    "by an index": "set local enable_seqscan = off; set local enable_bitmapscan = off",
    "by a bitmap": "set local enable_seqscan = off; set local enable_indexscan = off; set local enable_indexonlyscan = off",
    "every row": "set local enable_indexscan = off; set local enable_indexonlyscan = off; set local enable_bitmapscan = off",
    "hash and merge joins": "set local enable_nestloop = off; set local enable_seqscan = off",
}
SHAPES = {
    "rows": "select 1 from {t} t where {hit}",
    "count": "select count(*) from {t} t where {hit}",
    "no limit": "select 1 from {t} t where {hit} limit 0",
    "exists": "select exists (select from {t} t where {hit})",
    "outer side": "select 1 from {t} t left join (values (1)) v (x) on true where {hit}",
    "inner side": "select count(t.organization_id) from (values (1)) v (x) left join {t} t on {hit}",
    "empty outer side": "select 1 from (select 1 where random() < 0) v (x) left join {t} t on {hit}",
    "lateral": "select 1 from (values (1), (2)) v (x), lateral (select 1 from {t} t where {hit} offset 0) s",
    "both sides": "select 1 from {t} t join {t} s on s.organization_id = t.organization_id where {hit}",
    "full join": "select 1 from (select 1 as x from {t} t where {hit}) a full join (values (1)) v (x) on a.x = v.x",
    "subquery in a condition": "select 1 where 1 in (select 1 from {t} t where {hit})",
    "materialized": "with w as materialized (select 1 from {t} t where {hit}) select * from w",
    "sample": "select 1 from {t} t tablesample bernoulli (0.0001) repeatable (1) where {hit}",
    "by its place": "select 1 from {t} t where ctid = '(4000000,1)' and {hit}",
    "its organization by name": "select 1 from {t} t where organization_id = '{organization}' and {hit}",
    "locked": "select 1 from {t} t where {hit} for update skip locked",
    "updated": "update {t} t set organization_id = organization_id where {hit}",
    "removed": "delete from {t} t where {hit}",
    "merged": "merge into {t} t using (values (1)) v (x) on {hit} when matched then do nothing",
}
NEVER_SCANNED = {"no limit", "empty outer side"}
"""Shapes that may not start a scan; they may be empty for both cases instead."""
SECURITY_HEADERS = {"rows"}
"""Run for every column with every plan."""
SCANS = {"count", "inner side", "lateral", "both sides", "full join"}
"""Run with every plan; the others once."""
OWN = {
    "pia": ("user_id", "paul", "assigned_to user_id"), "ana": ("provider_id", "ben_provider", "provider_id scope_id user_id"),
    "tom": ("patient_id", "tina_patient", "patient_id user_id"),
}  # fmt: skip
"""Roles that see a part of the organization.

For each: its variable, the owner of another part, and the columns that policies compare with it.
"""


def attempt(connection: psycopg.Connection[Any], statement: str) -> str:
    """The result of the statement: its number of rows, or the SQLSTATE with its message."""
    try:
        with connection.transaction(force_rollback=True):
            return f"{connection.execute(statement).rowcount} rows"
    except psycopg.Error as error:
        return f"{error.sqlstate} {error.diag.message_primary}"


def values_of(as_root: psycopg.Connection[Any], table: str, condition: str) -> Iterator[tuple[str, str, str]]:
    """(column, a value of a matching row, a value of no row), as SQL, for each column that can be compared."""
    columns = as_root.execute(
        "select a.attname, t.typname from pg_attribute a join pg_type t on t.oid = a.atttypid where a.attrelid = %s::regclass "
        "and a.attnum > 0 and not a.attisdropped and t.typname = any (%s)",
        [table, TYPES],
    ).fetchall()
    for column, type_ in columns:
        found = as_root.execute(
            f"select format('%L::{type_}', {column}) from {table} where {condition} and {column} is not null limit 1"
        ).fetchone()
        # The planner compares the column of the organization with a constant of the caller's.
        if found and (table, column) not in ((table, "organization_id"), ("claim_totals", "scope_id")):
            yield column, found[0], ABSENT[type_]


def bend(connection: psycopg.Connection[Any], given: dict[str, Any]) -> None:
    for name, value in given.items():
        connection.execute(f"set local app.{name} = '{value}'")


def pairs(
    connection: psycopg.Connection[Any],
    table: str,
    there: str,
    not_there: str,
    organization: Any,
    *,
    first: bool = True,
) -> Iterator[tuple[str, str, str]]:
    """(shape, result for the existing row, result for none), for every plan; every shape for the first column only."""
    for (plan, settings), (shape, sql) in product(PLANS.items(), SHAPES.items()):
        if shape not in SECURITY_HEADERS and not (first and (plan == "as the planner likes" or shape in SCANS)):
            continue
        with connection.transaction(force_rollback=True):
            if settings:
                connection.execute(settings)
            shown = [
                attempt(connection, sql.format(t=table, hit=hit, organization=organization))
                for hit in (there, not_there)
            ]
        yield shape, *shown


def bent(as_role: Callable[..., Any], who: str, given: dict[str, Any]) -> psycopg.Connection[Any]:
    connection = as_role(who)
    bend(connection, given)
    return connection


def may_read(connection: psycopg.Connection[Any], table: str, column: str) -> bool:
    given = [table, column]
    return bool(connection.execute("select has_column_privilege(%s, %s, 'select')", given).fetchone() == (True,))


def of_tenant(other: Cast) -> dict[str, Any]:
    """The variable of the tenant, as it would be for another one."""
    return {"organization_id": other.organization}


def check(shape: str, one: str, none: str, what: str, *, contradicted: bool) -> None:
    """Checks that both look alike, and that a started scan has raised.

    contradicted: a policy compares the column with the caller's own id, so the planner sees two values that differ and starts no
    scan.
    """
    assert one == none, (shape, what)
    denied = one == UNVERIFIED or one.startswith("42501 permission denied for table")
    assert (
        denied or (one == "0 rows" and (contradicted or shape in NEVER_SCANNED)) or (contradicted and shape in SCANS)
    ), (shape, what, one)


@pytest.mark.parametrize("who", PEOPLE)
def test_a_row_of_another_tenant_looks_like_none(as_root, as_role, other, who):
    """Values that only the other tenant's row contains."""
    connection = bent(as_role, who, of_tenant(other))
    tried = 0
    for table in TABLES:
        for n, (column, value, absent) in enumerate(
            values_of(as_root, table, f"organization_id = '{other.organization}'")
        ):
            (held,) = as_root.execute(f"select count(*) from {table} where {column} = {value}").fetchone()
            assert held > 0  # control: the row exists
            there, not_there = f"t.{column} = {value}", f"t.{column} = {absent}"
            contradicted = who in OWN and column in OWN[who][2].split()
            for shape, one, none in pairs(connection, table, there, not_there, other.organization, first=n == 0):
                check(shape, one, none, f"{table}.{column}", contradicted=contradicted)
                tried += 1
    assert tried > 800


@pytest.mark.parametrize("who", OWN)
def test_a_row_of_another_member_looks_like_none(as_root, as_role, cast, who):
    """Within one tenant, by a role's own id."""
    as_root.execute("update claims set assigned_to = %s where claim_id = %s", [cast.paul, cast.bens_claim])
    variable, whose, own = OWN[who]
    connection = bent(as_role, who, {variable: cast.ids[whose]})
    tried = 0
    for table in TABLES:
        hidden = f"organization_id = '{cast.organization}'"
        if table in ("claims", "claim_status_history"):
            hidden += f" and claim_id = '{cast.bens_claim}'"
        for n, (column, value, absent) in enumerate(values_of(as_root, table, hidden)):
            there, not_there = f"t.{column} = {value}", f"t.{column} = {absent}"
            for shape, one, none in pairs(connection, table, there, not_there, cast.organization, first=n == 0):
                if column in own.split():
                    continue  # its own value is the caller's, whose rows it may see
                check(shape, one, none, f"{table}.{column}", contradicted=False)
                tried += 1
    assert tried > 800


@pytest.mark.parametrize("who", PEOPLE)
def test_a_kept_plan_reveals_no_more(as_root, as_role, cast, other, who):
    """Prepared in a valid context with a generic plan, and run in a changed context: nothing is planned any more."""
    connection = as_role(who)
    connection.prepare_threshold = None  # otherwise psycopg forgets prepared statements at every rollback
    connection.execute("set local plan_cache_mode = force_generic_plan")
    given = of_tenant(other) | ({OWN[who][0]: other.ids[OWN[who][1]]} if who in OWN else {})
    tried = 0
    for (plan, settings), table in product(PLANS.items(), TABLES):
        for column, value, absent in values_of(as_root, table, f"organization_id = '{other.organization}'"):
            if not may_read(connection, table, column):
                continue
            type_ = value.rpartition("::")[2]
            with connection.transaction(force_rollback=True):
                if settings:
                    connection.execute(settings)
                connection.execute(f"prepare kept ({type_}) as select 1 from {table} where {column} = $1")
                for _ in range(2):
                    connection.execute(f"execute kept ({absent})")
                bend(connection, given)
                shown = {attempt(connection, f"execute kept ({one})") for one in (value, absent)}
            connection.execute("deallocate kept")
            assert shown == {UNVERIFIED}, (plan, table, column)
            tried += 1
    assert tried > 100


@pytest.mark.parametrize("who", PEOPLE)
def test_a_change_during_a_statement_reveals_no_more(as_root, as_role, cast, other, who):
    """The variable is valid when the statement starts, and another tenant's before the scan of the table."""
    as_root.execute(SETS)
    connection = as_role(who)
    given = of_tenant(other) | ({OWN[who][0]: other.ids[OWN[who][1]]} if who in OWN else {})
    changes = ", ".join(f"set_config('app.{name}', '{value}', true)" for name, value in given.items())
    ways = [
        "with bent as materialized (select {changes}) select 1 from bent, {t} t where {hit}",
        "with bent as materialized (select {changes}) select 1 from bent left join {t} t on {hit}",
        "with bent as materialized (select {changes}) select 1 from bent, lateral (select from {t} t where {hit} offset 0) s",
        "select 1 from (select {changes} offset 0) bent join {t} t on {hit}",
        "select (select count(*) from {t} t where {hit}) from (select {changes} offset 0) bent",
        "select {changes}, (select count(*) from {t} t where {hit})",
        "select 1 from {t} t where {hit} and (select {changes}) is not null",
        # Its own comparison: the planner may use it for the scan in place of the policy's.
        "with bent as materialized (select {changes}, set_config('app.x', '{organization}', true)) "
        "select 1 from bent, {t} t where organization_id = current_setting('app.x')::uuid and {hit}",
    ]
    tried = 0
    for table, (plan, settings) in product(TABLES, PLANS.items()):
        if (who, table) in NOT_EVEN_OWN:
            continue
        for column, value, absent in values_of(as_root, table, f"organization_id = '{other.organization}'"):
            for way in ways:
                shown = []
                for one in (value, absent):
                    sql = way.format(
                        changes=changes, t=table, hit=f"t.{column} = {one}", organization=other.organization
                    )
                    with connection.transaction(force_rollback=True):
                        connection.execute(f"set local app.x = '{cast.organization}'")
                        if settings:
                            connection.execute(settings)
                        shown.append(attempt(connection, sql))
                assert shown[0] == shown[1], (plan, table, column, way)
                tried += 1
            break
    assert tried > 100


def test_control_a_policy_that_is_evaluated_late_reveals_a_row(as_root, as_role, other):
    """If only `<table>_context` checks the context, it is evaluated after a row has passed the index condition."""
    asks = "using (context.matches(organization_id, (select context.required_id(current_user))))"
    for table in TABLES:
        as_root.execute(
            f"drop policy {table}_requires_context on {table}; alter policy {table}_context on {table} {asks}"
        )
    connection = bent(as_role, "alma", of_tenant(other))
    telling = set()
    for table in TABLES:
        for column, value, absent in values_of(as_root, table, f"organization_id = '{other.organization}'"):
            there, not_there = f"t.{column} = {value}", f"t.{column} = {absent}"
            if any(
                one != none
                for _, one, none in pairs(connection, table, there, not_there, other.organization, first=False)
            ):
                telling.add(table)
                break
    assert len(telling) >= 10


def test_an_equality_of_the_caller_replaces_no_policy(as_root, as_role, cast, other):
    """The planner keeps one of several equalities, and an expression of the caller's may change during the statement."""
    as_root.execute(SETS)
    sql = "select organization_id, set_config('app.x', '{0}', true) from claims where organization_id = current_setting('app.x')::uuid"
    ways = [sql, sql + " order by created_at", "declare seen cursor for " + sql]

    def seen(connection):
        found = set()
        for way, settings in product(ways, PLANS.values()):
            with connection.transaction(force_rollback=True):
                if settings:
                    connection.execute(settings)
                connection.execute(f"set local app.x = '{cast.organization}'")
                if way.startswith("declare"):
                    connection.execute(way.format(cast.organization))
                    found |= {row[0] for row in connection.execute("fetch 1 from seen").fetchall()}
                    connection.execute(f"set local app.x = '{other.organization}'")
                    found |= {row[0] for row in connection.execute("fetch all from seen").fetchall()}
                else:
                    found |= {row[0] for row in connection.execute(way.format(other.organization)).fetchall()}
        return found

    assert seen(as_role("alma")) == {cast.organization}
    # Control: the verified id is compared by a plain equality alone.
    as_root.execute("drop policy claims_context on claims")
    assert seen(as_role("alma")) == {cast.organization, other.organization}


@pytest.mark.parametrize("value", ["x", "", "00000000-0000-4000-8000-00000000000", "{}", "1; select 1"])
def test_a_variable_set_by_hand_is_no_context(settings, value):
    names = ["organization_id", "user_id", "provider_id", "patient_id", "session_id"]
    with psycopg.connect(settings.api_database_url) as connection:
        for role, given, table in product(PRODUCT, (names[:1], names), TABLES):
            with connection.transaction(force_rollback=True):
                bend(connection, dict.fromkeys(given, value))
                connection.execute(f"set local role {role}")
                shown = attempt(connection, f"select count(*) from {table}")
            assert shown == UNVERIFIED or shown.startswith("42501 permission denied for table"), (
                role,
                given,
                table,
                shown,
            )
        with connection.transaction(force_rollback=True):  # no variable at all
            connection.execute("set local role claims_admin")
            assert attempt(connection, "select count(*) from claims") == UNVERIFIED


CHEAP = {"sampled": "{t} tablesample system (100)", "by its place": "{t}", "every row": "{t}"}
"""Ways to reach rows that no index condition of a policy excludes."""
OF_OTHERS = {
    "pia": "assigned_to is distinct from '{pia}'",
    "ana": "provider_id <> '{provider}'",
    "tom": "patient_id <> '{patient}' or status = 'draft'",
}
"""Claims of their own organization that each role may not read."""


def cheap_pairs(
    as_root: psycopg.Connection[Any], connection: psycopg.Connection[Any], table: str, condition: str
) -> Iterator[tuple[str, str, str, str]]:
    """(way, column, result of a cheap leakproof condition for a hidden row, and for none)."""
    for column, value, absent in values_of(as_root, table, condition):
        elsewhere = f"select exists (select from {table} where ({condition}) is not true and {column} = {value})"
        if value.endswith("::bytea") or not may_read(connection, table, column):
            continue
        if as_root.execute(elsewhere).fetchone() == (True,):  # a row that is not hidden contains the same value
            continue
        place = as_root.execute(f"select ctid::text from {table} where ({condition}) and {column} = {value}").fetchone()
        assert place
        for way, source in CHEAP.items():
            shown = []
            for one in (value, absent):
                # The sub-select runs only for a matching row: its error would reveal the row.
                asked = (
                    f"case when {column} = any (array[{one}]) then (select 1 / floor(random())::int) end is not null"
                )
                asked += f" and ctid = '{place[0]}'" if way == "by its place" else ""
                with connection.transaction(force_rollback=True):
                    connection.execute("set local enable_indexscan = off; set local enable_bitmapscan = off")
                    shown.append(attempt(connection, f"select from {source.format(t=table)} where {asked}"))
            yield way, column, *shown


@pytest.mark.parametrize("who", PEOPLE)
def test_a_cheap_condition_is_not_evaluated_for_another_tenants_row(as_root, as_role, other, who):
    """PostgreSQL evaluates leakproof conditions in the order of their cost, a policy's and the caller's alike."""
    connection = as_role(who)
    tried = 0
    for table in TABLES:
        if not may_read(connection, table, "organization_id"):
            continue
        for way, column, there, not_there in cheap_pairs(
            as_root, connection, table, f"organization_id = '{other.organization}'"
        ):
            assert there == not_there, (table, column, way)
            tried += 1
    assert tried > 30
    # Control: the policy compares with an operator.
    as_root.execute(
        "alter policy claims_context on claims to public "
        "using (case when organization_id = (select context.verified_id(current_user)) then true end)"
    )
    if who == "alma":
        told = cheap_pairs(as_root, connection, "claims", f"organization_id = '{other.organization}'")
        assert any(there.startswith("22012") and not_there == "0 rows" for _, _, there, not_there in told)


@pytest.mark.parametrize("who", OF_OTHERS)
def test_a_cheap_condition_is_not_evaluated_for_another_members_claim(as_root, as_role, cast, who):
    """Nor for a draft of the caller's own organization."""
    as_root.execute("set session_replication_role = replica")
    draft = "insert into claims (organization_id, claim_number, patient_id, provider_id, diagnosis_code, amount_cents, service_date, "
    as_root.execute(
        draft + "status) values (%s, 'DRAFT-1', %s, %s, 'A00', 4711, '2020-02-02', 'draft')",
        [cast.organization, cast.tom_patient, cast.ben_provider],
    )
    hidden = OF_OTHERS[who].format(provider=cast.ana_provider, patient=cast.tom_patient, pia=cast.pia)
    hidden = f"organization_id = '{cast.organization}' and ({hidden})"
    connection = as_role(who)

    def told():
        return list(cheap_pairs(as_root, connection, "claims", hidden))

    assert len(told()) > 10
    assert [one for one in told() if one[2] != one[3]] == []
    # Control: the policies compare with operators.
    as_root.execute(
        "create or replace function context.matches(of_row uuid, of_context uuid) returns boolean "
        "language sql immutable return case when of_row = of_context then true end"
    )
    assert [one for one in told() if one[2] != one[3]] != []


@pytest.mark.parametrize(
    "condition", ["notes is not null", "(array[null, null, null, null, null, null, null, true])[version]"]
)
def test_a_condition_without_cost_is_evaluated_before_any_policy(as_root, as_role, other, condition):
    """The open point in sql/README.md: empty columns and small integers, of a row whose organization is not revealed."""
    as_root.execute("set session_replication_role = replica")
    as_root.execute("update claims set notes = null, version = 1")
    connection = as_role("alma")
    asked = f"select from claims tablesample system (100) where case when {condition} then (select 1 / floor(random())::int) end is null"
    assert attempt(connection, asked) == "2 rows"
    as_root.execute("update claims set notes = 'x', version = 8 where claim_id = %s", [other.anas_claim])
    assert attempt(connection, asked).startswith("22012")
