"""Runs probes.py and scenarios.py inside the administrator's one open transaction, as each of PEOPLE.

`set session authorization` makes session_user the login, so that a context must be signed and every policy applies. A probe still
sees the administrator's uncommitted changes. The search_path is empty, so that definer functions must find their own names.
"""

import hmac
import re
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any
from uuid import UUID

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus

from app.database.context import BEGIN_CONTEXT, BOUND_PROOF_LIFETIME_S, UNBOUND_PROOF_LIFETIME_S
from app.security.tokens import Caller
from tests.security.policies.probes import LINES, RECORDED, SEED, TABLES, Probe
from tests.security.policies.scenarios import BECOME, CALLS, SCENARIOS, SIGNED, signed_arguments
from tests.support.cast import CONTEXT_KEY, KID, SIGNER, Cast, caller

ROLES = {
    "alma": "claims_admin", "pia": "claims_processor", "ana": "claims_provider", "tom": "claims_patient", "system": "claims_system",
    "auth_definer": "claims_auth_definer", "context_definer": "claims_context_definer",
    "trigger_definer": "claims_trigger_definer", "audit_sealer": "claims_audit_sealer", "owner": "claims_owner",
    "api": "claims_api", "worker": "claims_worker", "auditor": "claims_auditor", "operator": "claims_operator",
    "reporter": "claims_reporting", "personal": "claims_reporting_personal",
    "as_alma": "claims_check_admin", "as_pia": "claims_check_processor",
    "as_ana": "claims_check_provider", "as_tom": "claims_check_patient",
}  # fmt: skip
"""The callers of every line, with their database roles."""

_ENTER = "select context.begin_request('{{organization}}', '{{{0}}}', null, '', '', 'sql', false); set local role {1}"
_ASSUME = "select context.establish('{{organization}}', '{{{0}}}', null, '{1}'); set local role {2}"
# A login alone, with its variables set: an empty one is an error before a missing grant is one.
_LOGIN = "select context.establish('{{organization}}', '{{pia}}'); set session authorization {0}"
_REPORT = (
    "insert into context.reporting_logins (login, organization_id) values ('{0}', '{{organization}}'); "
    "select set_config('app.organization_id', '{{organization}}', true); set session authorization {0}"
)
PEOPLE = {
    **{who: f"set session authorization claims_api; {{enter_{who}}}" for who in ("alma", "pia", "ana", "tom")},
    "system": "set session authorization claims_worker; "
    "select set_config('role', context.begin_job('{organization}', '{toms_event}'), true)",
    # Roles without a login: set by an operator, whom context.required_id accepts.
    **{
        who: _ASSUME.format("pia", "", ROLES[who])
        for who in ("auth_definer", "context_definer", "trigger_definer", "audit_sealer", "owner")
    },
    **{f"as_{who}": _ENTER.format(who, ROLES[f"as_{who}"]) for who in ("alma", "pia", "ana", "tom")},
    "stray": _ASSUME.format("ana", "provider", "claims_provider"),
    **{who: _LOGIN.format(ROLES[who]) for who in ("api", "worker", "auditor", "operator")},
    **{who: _REPORT.format(ROLES[who]) for who in ("reporter", "personal")},
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
"""The statements that switch to each caller."""

CONCURRENTLY_UPDATED = "XX000"
FORGET = "discard plans; "


def all_probes() -> list[Probe]:
    """LINES for every role; the rights that no role has; and the scenarios."""
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


def add_rows(connection: psycopg.Connection[Any], casts: dict[str, Cast]) -> None:
    """SEED in both tenants, by their admins."""
    for who in casts.values():
        with connection.transaction():
            begin = "select set_config('role', context.begin_request(%s, %s, null, 'setup', '', 'sql', false), true)"
            connection.execute(begin, [who.organization, who.alma])
            connection.execute(SEED.format(**who.ids))
    connection.execute(
        "insert into context.reporting_logins (login, organization_id) values ('inserted', %s)",
        [casts["south"].organization],
    )


class Guard:
    """A database with the cast and SEED, and one administrator's connection to it (lc_messages C, autocommit)."""

    def __init__(self, connection: psycopg.Connection[Any], casts: dict[str, Cast]) -> None:
        self.connection = connection
        self._north, self._south = casts["north"], casts["south"]
        self._backend = connection.info.backend_pid
        self._own_pads = connection.execute(
            "select inner_pad, outer_pad from context.keys where kid = 'self'"
        ).fetchone()
        self._words: dict[str, Any] = {}
        self._signed_at = 0.0
        # It refuses DDL before a missing grant does (tests/security/attacks/test_injected_sql.py); the probes test the grants.
        connection.execute("alter event trigger claims_refuse_ddl disable")

    def begin(self, fault: str = "", *, forget: bool = False) -> None:
        """Opens the transaction of one fault. A concurrent change of the same role makes it retry.

        forget: PostgreSQL replans after a change of a table or a policy, but not after one of a role.
        """
        # A signature for any backend is valid for this long, and the transaction's time does not advance.
        if time.monotonic() > self._signed_at + UNBOUND_PROOF_LIFETIME_S / 2:
            self._sign()
        for _ in range(5):
            if (outcome := self.run(f"begin; {FORGET if forget else ''}{fault}")) != CONCURRENTLY_UPDATED:
                break
            self.run("rollback")
        assert outcome == "ok", f"{outcome}: {fault}"

    def rollback(self, *, forget: bool = False) -> None:
        self.run(f"rollback; {FORGET if forget else ''}")

    def audit(self, check: str) -> str:
        """The first finding of a check of sql/audit, run by the auditor's login."""
        self.run("savepoint audit; set session authorization claims_auditor")
        result = self.connection.pgconn.exec_(check.encode())
        found = result.get_value(0, 1) if result.ntuples else None
        self.run("rollback to savepoint audit")
        return (found or b"").decode()

    def _sign(self) -> None:
        """Signs every context and every call of the probes."""
        self._signed_at = time.monotonic()
        self._words = self._north.ids | {"south": self._south, "calls": self._calls()}
        self._words |= {f"enter_{name}": sql for name, sql in self._contexts()}

    def _proofs(self, message: str) -> Iterator[tuple[str, str | None]]:
        """Proofs of the message by their names in PROOFS; the first two are valid."""
        now, here = int(time.time()), self._backend
        bound, anywhere = now + BOUND_PROOF_LIFETIME_S, now + UNBOUND_PROOF_LIFETIME_S
        kid, key = KID, CONTEXT_KEY
        good = _proof(message, bound, here)
        yield from {
            "": good,
            "anywhere": _proof(message, anywhere, 0),
            "none": None,
            "nothing": "",
            "longer": f"{good}:",
            "another backend": _proof(message, bound, here + 1),
            "another key": _proof(message, bound, here, kid, bytes(len(key))),
            "no such key": _proof(message, bound, here, "none", key),
            "old": _proof(message, now - BOUND_PROOF_LIFETIME_S, here),
            "early": _proof(message, bound + BOUND_PROOF_LIFETIME_S, here),
            "old anywhere": _proof(message, now - BOUND_PROOF_LIFETIME_S, 0),
            "early anywhere": _proof(message, bound, 0),
            "changed": good[:-1] + ("0" if good[-1] != "0" else "1"),
            "key of contexts": self._by_own_key(message, bound, here),
        }.items()

    def _by_own_key(self, message: str, expires: int, backend: int) -> str:
        ((signature,),) = self.connection.execute(
            "select encode(context.hmac_sha256(%s, %s, %b), 'hex')",
            [*self._own_pads, _message(message, expires, backend)],
        ).fetchall()
        return f"self:{expires}:{backend}:{signature}"

    def _calls(self) -> dict[str, str]:
        """Every function of SIGNED with its arguments, by its name and that of the proof.

        A proof is one of PROOFS, or "but <argument>" if that argument differs from the signed one.
        """
        mogrify = psycopg.ClientCursor(self.connection).mogrify
        calls = {}
        for function, query in SIGNED.items():
            given = signed_arguments(self._north)[function]
            sign = lambda given: SIGNER.sign_call(query, given)["proof"]  # noqa: B023, E731
            (message,) = sign(given).args
            proofs = dict(self._proofs(message))
            proofs["another function"] = _proof(
                f"5:other{message[message.index(function) + len(function) :]}", *self._for_here()
            )
            proofs["one argument more"] = _proof(f"{message}1:x", *self._for_here())
            for name in query.signed[1]:  # type: ignore[index]
                proofs[f"but {name}"] = sign(given | {name: _another(given[name])})(self._backend)
            (call,) = re.findall(r"auth\.\w+\((?:%\(\w+\)s|[^()])*\)", query.text(given))
            for name, proof in proofs.items():
                calls[f"{function} {name}".strip()] = mogrify(call, given | {"proof": proof})
            if "caller" in given:  # an unknown token, or the function would raise a later error
                of_south = (
                    given | {"caller": self._south.alma} | ({"refresh_hash": b""} if function == "log_out" else {})
                )
                calls[f"{function} of south"] = mogrify(call, of_south | {"proof": sign(of_south)(self._backend)})
        return calls

    def _for_here(self) -> tuple[int, int]:
        return int(time.time()) + BOUND_PROOF_LIFETIME_S, self._backend

    def _contexts(self) -> Iterator[tuple[str, str]]:
        """Every context that a probe may begin, or try to begin."""
        north, south = self._north, self._south
        mogrify = psycopg.ClientCursor(self.connection).mogrify

        def begin(who: Caller, request: str = "test", reading: bool = False, **changed: Any) -> str:
            given = SIGNER.sign_context(who, request_id=request, address="", source="api", read_only=reading)
            return mogrify(BEGIN_CONTEXT, given | {"proof": given["proof"](self._backend)} | changed)

        for name in ("alma", "pia", "ana", "tom"):
            yield name, begin(caller(north, name))
        pia = caller(north, "pia")
        yield "reading", begin(pia, reading=True)
        yield "mixed", begin(Caller(south.organization, north.pia, north.pia, ""))
        yield "by_anas_session", begin(Caller(north.organization, north.pia, north.ana, ""))
        yield "without_session", begin(Caller(north.organization, north.pia, "", ""), session_id=None)  # type: ignore[arg-type]
        yield "by_line", begin(pia, request="test\nx")
        given = SIGNER.sign_context(pia, request_id="test", address="", source="api", read_only=False)
        (message,) = given["proof"].args
        for name, proof in self._proofs(message):
            yield f"by {name}", mogrify(BEGIN_CONTEXT, given | {"proof": proof})
        for name in given.keys() - {"proof"}:
            other = not given[name] if name == "read_only" else _another(given[name])
            yield f"but {name}", begin(pia, **{name: other})
        yield "but not reading", begin(pia, reading=True, read_only=False)

    def outcomes(self, probes: Iterable[Probe]) -> Iterator[tuple[Probe, str]]:
        """The outcome of each probe, in their order, in the open transaction, which is unchanged afterwards."""
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
        """The outcome of the last statement, in the notation of probes.py."""
        result = self.connection.pgconn.exec_(sql.encode())
        if result.status == ExecStatus.TUPLES_OK:
            return str(result.ntuples)
        if result.status == ExecStatus.COMMAND_OK:
            return "ok" if result.command_tuples is None else str(result.command_tuples)
        message = (result.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"").decode()
        inside = result.error_field(DiagnosticField.CONTEXT)
        # An error inside a function or a policy is another matter than a missing right for the statement itself.
        if message.startswith("permission denied") and not inside and message.split()[-1].strip('"') in sql:
            return "-"
        if "row-level security policy" in message:
            return "!"
        return (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()


def _message(message: str, expires: int, backend: int) -> bytes:
    return f"{message}\n{expires}\n{backend}".encode()


def _proof(message: str, expires: int, backend: int, kid: str = KID, key: bytes = CONTEXT_KEY) -> str:
    return f"{kid}:{expires}:{backend}:{hmac.digest(key, _message(message, expires, backend), 'sha256').hex()}"


def _another(value: Any) -> Any:
    """Another value of an argument; for None the empty text, which must differ, too."""
    if value is None:
        return ""
    if isinstance(value, UUID):
        return UUID(int=value.int ^ 1)
    return value + {str: "x", bytes: b"x", int: 1}[type(value)]
