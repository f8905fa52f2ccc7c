"""The requirements of each transition: the file, the table, and what happens where one is not met."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from app.database.schema_files import SQL
from app.operations.reference_data import TRANSITION_COLUMNS, load_claim_transitions
from app.vocabulary import ACTING_ROLES

TRANSITIONS = list(csv.DictReader((SQL / "data" / "claim-transitions.csv").read_text().splitlines()))
OF_THE_TABLE = f"select {TRANSITION_COLUMNS} from claim_transitions"
WORDS = {
    "": (False, False, None),
    "reason": (True, False, None),
    "denial_reason": (False, True, None),
    "every check that a new submission passes": (False, False, "all_checks"),
    "approved_amount between 0 and amount (amount when absent)": (False, False, "amount_in_range"),
    "reason; within the organization's appeal window": (True, False, "within_appeal_window"),
    "reason; only where approved_amount < amount": (True, False, "partially_approved"),
    "not the user who decided it before": (False, False, "not_decider"),
    "only to undo the admission or treatment that moved it and nothing touched it since": (
        False,
        False,
        "system_reverts_own",
    ),
    "reason; system only after its own automatic approval": (True, False, "system_reverts_own"),
}
"""The columns of each wording of `requires`."""
BEGIN_JOB = "select set_config('role', context.begin_job(%s, %s), true), set_config('search_path', 'app', true)"
ROW = {
    "submitted_at": "now()", "processed_at": "now()", "decided_by": "null", "status_by": "null", "status_event_id": "%(event)s",
    "approved_cents": "case when %(status)s in ('approved', 'paid') then 100 end", "denial_reason": "'not covered'",
    "service_date": "current_date - 3",
}  # fmt: skip
"""Columns of a claim, in SQL, from which each transition is possible."""
SENT = {"status_reason": "because", "denial_reason": "not covered", "approved_cents": None}
"""Values that are sent with each transition."""


@dataclass(frozen=True)
class Breach:
    """A requirement that is not met: the columns that differ, the SQLSTATE, and the fields that it names."""

    row: dict[str, str] = field(default_factory=dict)
    sent: dict[str, Any] = field(default_factory=dict)
    state: str = "INVAL"
    fields: tuple[str, ...] = ()


BREACHES = {
    "needs_reason": Breach(sent={"status_reason": None}, fields=("reason",)),
    "needs_denial_reason": Breach({"denial_reason": "null"}, {"denial_reason": None}, fields=("denialReason",)),
    "all_checks": Breach({"service_date": "current_date + 9"}, fields=("serviceDate",)),
    "amount_in_range": Breach(sent={"approved_cents": 12551}, fields=("approvedAmount",)),
    "within_appeal_window": Breach({"processed_at": "'2020-01-01'"}, state="TRANS"),
    "partially_approved": Breach({"approved_cents": "amount_cents"}, state="TRANS"),
    "not_decider": Breach({"decided_by": "%(caller)s"}, state="42501"),
    "system_reverts_own": Breach({"status_event_id": "null"}, state="TRANS"),
}
CALLERS = {"admin": "alma", "claims_processor": "pia", "provider": "ana", "system": None}


def requirements(line: dict[str, str]) -> Iterator[str]:
    """Names of the requirements of a line of the file."""
    yield from (name for name in ("needs_reason", "needs_denial_reason") if line[name] == "yes")
    if line["rule"]:
        yield line["rule"]


@pytest.fixture
def move(settings, as_root, as_role, cast) -> Callable[[str, dict[str, str], Breach], tuple[str, tuple[str, ...]]]:
    """Tries a transition of ana's claim as a role; returns "moved" or the SQLSTATE, and the fields that it names."""

    def act_as(role: str) -> psycopg.Connection[Any]:
        if name := CALLERS[role]:
            return as_role(name)
        connection = psycopg.connect(settings.worker_database_url)
        connection.execute(BEGIN_JOB, [cast.organization, cast.toms_event])
        return connection

    def attempt(role: str, line: dict[str, str], breach: Breach) -> tuple[str, tuple[str, ...]]:
        caller = cast.ids[name] if (name := CALLERS[role]) else None
        columns = "".join(f", {column} = {value}" for column, value in (ROW | breach.row).items())
        given = {"status": line["from_status"], "event": cast.toms_event, "caller": caller, "claim": cast.anas_claim}
        with as_root.transaction():
            as_root.execute("set local session_replication_role = replica")
            as_root.execute(f"update claims set status = %(status)s{columns} where claim_id = %(claim)s", given)
        sent = SENT | breach.sent | {"status": line["to_status"]}
        if role == "system":
            del sent["denial_reason"]  # no grant
        assigned = ", ".join(f"{column} = %({column})s" for column in sent)
        connection = act_as(role)
        try:
            rows = connection.execute(f"update claims set {assigned} where claim_id = %(claim)s", given | sent)
            return {1: "moved", 0: "hidden"}[rows.rowcount], ()
        except psycopg.Error as error:
            named = json.loads(error.diag.message_detail or "{}") if error.sqlstate == "INVAL" else {}
            return str(error.sqlstate), tuple(named)
        finally:
            connection.rollback()
            connection.close()

    return attempt


@pytest.mark.parametrize("role", CALLERS)
def test_a_transition_needs_each_of_its_requirements(move, role):
    tried = set()
    for line in TRANSITIONS:
        if not line["from_status"] or line[role] == "no":
            continue
        assert move(role, line, Breach()) == ("moved", ()), line  # control
        for name in requirements(line):
            breach = BREACHES[name]
            expected = breach.state, breach.fields
            if name == ("not_decider" if role == "system" else "system_reverts_own"):
                expected = "moved", ()  # it restricts other roles
            assert move(role, line, breach) == expected, (line, name)
            tried.add(name)
    assert len(tried) >= 3  # control


def test_every_requirement_is_tried():
    assert {name for line in TRANSITIONS for name in requirements(line)} == set(BREACHES)


@pytest.mark.parametrize("line", TRANSITIONS, ids=lambda line: f"{line['from_status']}-{line['to_status']}")
def test_the_columns_are_those_of_the_words(line):
    assert (line["needs_reason"] == "yes", line["needs_denial_reason"] == "yes", line["rule"] or None) == WORDS[
        line["requires"]
    ]


def test_the_table_is_the_file(as_root):
    expected = {
        (line["from_status"], line["to_status"], role, line["requires"] or None, *WORDS[line["requires"]])
        for line in TRANSITIONS
        for role in ACTING_ROLES
        if line[role] != "no"
    }
    assert set(as_root.execute(OF_THE_TABLE)) == expected
    as_root.execute("update claim_transitions set rule = null; delete from claim_transitions where role = 'system'")
    assert set(as_root.execute(OF_THE_TABLE)) != expected  # control
    load_claim_transitions(as_root)
    assert set(as_root.execute(OF_THE_TABLE)) == expected


def test_a_rule_that_no_function_knows_is_refused(move, as_root):
    line = next(line for line in TRANSITIONS if line["rule"] == "amount_in_range")
    as_root.execute("update claim_transitions set rule = null")
    assert move("admin", line, Breach()) == ("moved", ())  # control
    with pytest.raises(psycopg.errors.CheckViolation):
        as_root.execute("update claim_transitions set rule = 'other'")
    as_root.execute("alter table claim_transitions drop constraint claim_transitions_rule_check")
    as_root.execute("update claim_transitions set rule = 'other'")
    assert move("admin", line, Breach()) == ("20000", ())


def test_no_function_reads_the_words(as_root):
    query = """
        select p.proname, pg_get_functiondef(p.oid) from pg_proc p
        where p.prokind = 'f' and p.pronamespace in ('app'::regnamespace, 'auth'::regnamespace, 'context'::regnamespace)"""
    bodies = as_root.execute(query).fetchall()

    def reading(column: str) -> list[str]:
        return [name for name, body in bodies if re.search(rf"\b{column}\b", body)]

    assert reading("requires") == []
    assert reading("needs_reason") == ["check_transition"]  # control
