"""Mutation test: every possible fault of the database's guard is found, by a probe of a right or by a check of sql/audit.

mutants.py generates the faults from the live catalog, probes.py and scenarios.py are the probes, matrix.py runs them. A new
table, role, trigger or function has mutants at once, and they survive until it has its probes. The API also refuses to start on
any of them, because the catalog's fingerprint differs; that does not count here. `make policy-mutation-test` prints the killer of
each mutant.
"""

import time
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain

import psycopg
import pytest

from app.database.schema_files import SQL
from tests.security.policies.matrix import ROLES, Guard, add_rows, all_probes
from tests.security.policies.mutants import EQUIVALENT, KINDS, Mutant
from tests.security.policies.probes import TENANT_TABLES, Probe

PROBES = sorted(all_probes(), key=lambda probe: (probe.who, probe.arrange))
"""Sorted by caller, because switching the caller costs more than a probe."""


@pytest.fixture
def guard(settings, casts) -> Iterator[Guard]:
    options = "-c search_path= -c lc_messages=C"
    with psycopg.connect(settings.database_url, autocommit=True, options=options) as connection:
        add_rows(connection, casts)
        guard = Guard(connection, casts)
        yield guard
        guard.rollback()  # whatever the result of the test: a fault of a role is one of the whole server


def failures(guard: Guard, probes: Iterable[Probe]) -> Iterator[str]:
    for probe, outcome in guard.outcomes(probes):
        if outcome != probe.expect:
            yield f"{probe.who}: {probe.sql} -> {outcome} instead of {probe.expect}"


class Audit:
    """The checks of sql/audit; the one with the last finding runs first."""

    def __init__(self) -> None:
        self._checks = sorted((SQL / "audit").glob("[0-9]*.sql"))

    def failures(self, guard: Guard) -> Iterator[str]:
        for path in self._checks:
            if found := guard.audit(path.read_text()):
                self._checks.remove(path)
                self._checks.insert(0, path)
                yield f"audit {path.stem}: {found}"
                return


@cache
def near_and_far(about: tuple[str, ...], role: str) -> tuple[list[Probe], list[Probe]]:
    """The probes about the subject of a mutant, by its role if it has one; and all others."""

    def is_near(probe: Probe) -> bool:
        line = f"{probe.sql} {probe.expect}"
        return (not role or ROLES.get(probe.who, probe.who) == role) and (
            not about or any(word in line for word in about)
        )

    near = [probe for probe in PROBES if is_near(probe)]
    return near, [probe for probe in PROBES if not is_near(probe)]


def killer(guard: Guard, audit: Audit, mutant: Mutant) -> str | None:
    """The first that fails: a near probe, a check of the audit, any other probe."""
    near, far = near_and_far(mutant.about, mutant.role)
    told = chain(failures(guard, near), audit.failures(guard), failures(guard, far))
    return next(told, None)


def killers(guard: Guard, mutants: Iterable[Mutant]) -> dict[str, str | None]:
    """The killer of each mutant; None for a survivor."""
    audit, found = Audit(), {}
    for mutant in mutants:
        guard.begin(mutant.sql, forget=mutant.is_of_roles)
        found[mutant.name] = killer(guard, audit, mutant)
        guard.rollback(forget=mutant.is_of_roles)
    return found


def test_every_probe_passes_without_a_change(guard):
    guard.begin()
    assert list(failures(guard, PROBES)) == []


def test_rows_exist_beyond_every_callers_reach(guard, other):
    """The control of every probe that returns no row."""
    for table in TENANT_TABLES:
        of_south = f"select from {table} where organization_id = %s"
        assert guard.connection.execute(of_south, [other.organization]).rowcount > 0, table


@pytest.mark.parametrize("kind", KINDS)
def test_every_mutant_is_killed(guard, kind):
    started = time.monotonic()
    found = killers(guard, KINDS[kind](guard.connection))
    print()
    for name, by in found.items():
        print(f"{name} | {by or 'none: ' + EQUIVALENT.get(name, 'SURVIVES')}")
    by_audit = sum(by is not None and by.startswith("audit ") for by in found.values())
    print(f"{kind}: {len(found)} mutants in {time.monotonic() - started:.0f} s, {by_audit} of them killed by the audit")
    survivors = {name for name, by in found.items() if by is None}
    assert survivors - EQUIVALENT.keys() == set()
    assert EQUIVALENT.keys() & found.keys() == survivors  # a killed mutant does not belong into the list
    guard.begin()
    assert list(failures(guard, PROBES)) == []  # control: no mutant was left


def test_every_equivalent_is_a_mutant(guard):
    names = {mutant.name for kind in KINDS.values() for mutant in kind(guard.connection)}
    assert EQUIVALENT.keys() <= names


def test_a_table_without_probes_is_named(guard):
    """A table without a fault for the audit, and without a probe of its own policy."""
    guard.connection.execute(
        "create table app.extra (organization_id uuid primary key, open boolean); "
        "alter table app.extra enable row level security, force row level security; "
        "create policy extra_tenant on app.extra as restrictive using (organization_id = context.variable('organization_id')); "
        "create policy extra_requires_context on app.extra as restrictive "
        "using (organization_id = (select context.required_id(current_user))) with check (true); "
        "create policy extra_context on app.extra as restrictive "
        "using (context.matches(organization_id, (select context.verified_id(current_user)))) "
        "with check (context.matches(organization_id, (select context.required_id(current_user)))); "
        "create policy extra_admin on app.extra for select to claims_admin using (open); grant select on app.extra to claims_admin; "
        "create trigger extra_90_audit after insert or update or delete on app.extra "
        "for each row execute function app.audit_row('organization_id')"
    )
    found = killers(guard, (mutant for mutant in KINDS["policies"](guard.connection) if "app.extra" in mutant.about))
    survivors = {name for name, by in found.items() if by is None}
    assert {"drop policy extra_admin on app.extra", "alter policy extra_admin on app.extra using (true)"} <= survivors


def test_a_function_without_a_line_is_named(guard):
    guard.connection.execute(
        "create function app.extra() returns integer language sql return 1; revoke execute on function app.extra from public"
    )
    mutants = KINDS["functions"](guard.connection)
    found = killers(
        guard, (mutant for mutant in mutants if mutant.about == ("app.extra(",) and mutant.role == "claims_admin")
    )
    assert found == {"grant execute on function app.extra() to claims_admin": None}
