"""Runs guard_probes.py and guard_scenarios.py inside the administrator's one open transaction, as each of PEOPLE in turn.

`set session authorization` makes session_user the login, so that a context must be signed and every policy holds; and yet a probe
sees what the administrator changed and never commits. The search_path is empty: what runs as somebody else finds its own names.
"""

import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any
from unittest import mock
from uuid import UUID

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus

from app.context import ENTER, KNOCK, SIGNED_FOR
from app.tokens import Caller, secret_hash
from tests.conftest import SIGNER, Cast, entering
from tests.guard_probes import LINES, PLANT, RECORDED, TABLES, Probe
from tests.guard_scenarios import BECOME, CALLS, SCENARIOS

ROLES = {
    "alma": "claims_admin", "pia": "claims_processor", "ana": "claims_provider", "tom": "claims_patient", "system": "claims_system",
    "gate": "claims_gate", "usher": "claims_usher", "recorder": "claims_recorder", "sealer": "claims_sealer", "owner": "claims_owner",
    "api": "claims_api", "worker": "claims_worker", "auditor": "claims_auditor",
    "as_alma": "claims_as_admin", "as_pia": "claims_as_processor", "as_ana": "claims_as_provider", "as_tom": "claims_as_patient",
}  # fmt: skip
"""Who tries every line, and as which role of the database."""

_ENTER = "select ctx.enter('{{organization}}', '{{{0}}}', null, '', '', 'sql', false); set local role {1}"
_ASSUME = "select ctx.assume('{{organization}}', '{{{0}}}', null, '{1}'); set local role {2}"
# A login alone, with variables that stand as they might: an empty one is an error before a missing grant is one.
_LOGIN = "select ctx.assume('{{organization}}', '{{pia}}'); set session authorization {0}"
PEOPLE = {
    **{who: f"set session authorization claims_api; {{enter_{who}}}" for who in ("alma", "pia", "ana", "tom")},
    "system": "set session authorization claims_worker; "
    "select set_config('role', ctx.enter_job('{organization}', '{toms_event}'), true)",
    # Roles that nobody logs in as: by an operator, whom <table>_signed lets pass.
    **{who: _ASSUME.format("pia", "", ROLES[who]) for who in ("gate", "usher", "recorder", "sealer", "owner")},
    **{f"as_{who}": _ENTER.format(who, ROLES[f"as_{who}"]) for who in ("alma", "pia", "ana", "tom")},
    "stray": _ASSUME.format("ana", "provider", "claims_provider"),
    **{who: _LOGIN.format(ROLES[who]) for who in ("api", "worker", "auditor")},
    "door": "set session authorization claims_api; {knock}",
    "forger": "set session authorization claims_api; "
    + "".join(
        f"select set_config('app.{name}', '{value}', true); "
        for name, value in {
            "organization_id": "{south.organization}",
            "user_id": "{south.alma}",
            "session_id": "{south.alma}",
            "role": "admin",
            "provider_id": "",
            "patient_id": "",
        }.items()
    )
    + "set local role claims_admin",
    "root": "",
}
"""How somebody is become."""

CONCURRENTLY_UPDATED = "XX000"
FORGET = "discard plans; "


def all_probes() -> list[Probe]:
    """LINES for everybody; what nobody may; and the scenarios."""
    probes = []
    for sql, expected in LINES:
        outcomes = dict(one.split() for one in expected.split(", ") if one)
        assert outcomes.keys() <= ROLES.keys(), sql
        probes += [Probe(who, sql, outcomes.get(who) or outcomes.get(who.removeprefix("as_"), "-")) for who in ROLES]
    trigger = (
        "create trigger probe before update on {} for each row execute function suppress_redundant_updates_trigger()"
    )
    for table in TABLES:
        for who in ROLES:
            if who != "owner" or table in RECORDED:
                probes.append(Probe(who, f"truncate {table}", "-"))
            if who != "owner":
                probes.append(Probe(who, trigger.format(table), "-"))
    for who, may in BECOME.items():
        for role in ROLES.values():
            if role != ROLES[who]:
                probes.append(Probe(who, f"set role {role}", "ok" if role in may.split() else "-"))
    probes += [Probe(who, "create role probe", "-") for who in ROLES]
    for may, calls in CALLS:
        assert ROLES.keys() >= set(may.split()), calls
        others = [who for who in ROLES if not {who, who.removeprefix("as_")} & set(may.split())]
        probes += [Probe(who, f"select {call}", "-") for call in calls.split() for who in others]
    return probes + SCENARIOS


def plant(connection: psycopg.Connection[Any], casts: dict[str, Cast]) -> None:
    """PLANT in both tenants, by their admins."""
    for who in casts.values():
        with connection.transaction():
            enter = "select set_config('role', ctx.enter(%s, %s, null, 'plant', '', 'sql', false), true)"
            connection.execute(enter, [who.organization, who.alma])
            connection.execute(PLANT.format(**who.ids))


class Guard:
    """A database with the cast and PLANT, and one administrator's connection to it (lc_messages C, autocommit)."""

    def __init__(self, connection: psycopg.Connection[Any], casts: dict[str, Cast]) -> None:
        self.connection = connection
        self._north, self._south = casts["north"], casts["south"]
        self._words: dict[str, Any] = {}
        self._signed_at = 0.0

    def begin(self, fault: str = "", *, forget: bool = False) -> None:
        """Opens the transaction of one fault. Whoever changes the same role at the same moment goes first.

        forget: plans are made anew by themselves where a table or a policy changes, but not where a role does.
        """
        if time.monotonic() > self._signed_at + SIGNED_FOR / 2:
            self._sign()
        for _ in range(5):
            if (planted := self.run(f"begin; {FORGET if forget else ''}{fault}")) != CONCURRENTLY_UPDATED:
                break
            self.run("rollback")
        assert planted == "ok", f"{planted}: {fault}"

    def rollback(self, *, forget: bool = False) -> None:
        self.run(f"rollback; {FORGET if forget else ''}")

    def audit(self, check: str) -> str:
        """The first object that a check of sql/audit finds, asked by the auditor's login."""
        self.run("savepoint audit; set session authorization claims_auditor")
        result = self.connection.pgconn.exec_(check.encode())
        found = result.get_value(0, 1) if result.ntuples else None
        self.run("rollback to savepoint audit")
        return (found or b"").decode()

    def _sign(self) -> None:
        """Signs every context that a probe may enter; a signature holds for a minute."""
        north, south = self._north, self._south
        ids = north.organization, north.pia
        pia = entering(north, "pia")
        statements = {f"enter_{who}": (ENTER, entering(north, who)) for who in ("alma", "pia", "ana", "tom")}
        statements |= {
            "knock": (KNOCK, SIGNER.knocking()),
            "enter_reading": (ENTER, pia | {"read_only": True}),
            "enter_unsigned": (ENTER, pia | {"signature": b"x"}),
            "enter_mixed": (ENTER, _entering(south.organization, north.pia, north.pia)),
            "enter_by_anas_session": (ENTER, _entering(*ids, north.ana)),
            "enter_without_session": (ENTER, _entering(*ids, "") | {"session_id": None}),
        }
        with mock.patch("app.context.time.time", return_value=time.time() - 2 * SIGNED_FOR):
            statements["enter_late"] = (ENTER, entering(north, "pia"))
        mogrify = psycopg.ClientCursor(self.connection).mogrify
        token = f"\\x{secret_hash('invitation to north').hex()}"
        self._words = north.ids | {"south": south, "token": token}
        self._words |= {name: mogrify(*statement) for name, statement in statements.items()}
        self._signed_at = time.monotonic()

    def outcomes(self, probes: Iterable[Probe]) -> Iterator[tuple[Probe, str]]:
        """What comes of each probe, in their order, in the transaction that is open; it is as before afterwards."""
        for (who, arrange), together in groupby(probes, lambda probe: (probe.who, probe.arrange)):
            become = f"savepoint person; {arrange}; {PEOPLE[who]}; set local search_path = ''; savepoint probe"
            failed = self.run(become.format(**self._words))
            for probe in together:
                if failed == "ok":
                    yield probe, self.run(f"rollback to savepoint probe; {probe.sql}".format(**self._words))
                else:
                    yield probe, f"{who} fails: {failed}"
            self.run("rollback to savepoint person; release savepoint person")

    def run(self, sql: str) -> str:
        """The outcome of the last statement, as guard_probes writes it."""
        result = self.connection.pgconn.exec_(sql.encode())
        if result.status == ExecStatus.TUPLES_OK:
            return str(result.ntuples)
        if result.status == ExecStatus.COMMAND_OK:
            return "ok" if result.command_tuples is None else str(result.command_tuples)
        message = (result.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"").decode()
        inside = result.error_field(DiagnosticField.CONTEXT)
        # What a function or a policy may not is another matter than what the statement itself may not.
        if message.startswith("permission denied") and not inside and message.split()[-1].strip('"') in sql:
            return "-"
        if "row-level security policy" in message:
            return "!"
        return (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()


def _entering(organization: UUID, user: UUID, session: UUID | str) -> dict[str, Any]:
    who = Caller(organization, user, session, "")  # type: ignore[arg-type]
    return SIGNER.entering(who, request_id="test", address="", source="api", read_only=False)
