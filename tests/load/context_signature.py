"""`make bench NAME=context_signature`: the cost of signing the context, as the ratio of a signed database to an unsigned copy.

Unsigned: <table>_requires_context and <table>_context are dropped, context.verify_proof and context.is_valid_proof check nothing, and
context.hmac_sha256 computes nothing. The API signs in both cases; the time of that is printed by itself. Elapsed time is a client's, of
AT_ONCE, for one request. CPU is user and system for each request, of the database's backends and of the API process. The two copies
alternate, so that other load of the machine affects both.
"""

import http.client
import re
import statistics
import time
import timeit
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import uuid4

import msgspec
import psutil
import psycopg
from psycopg.conninfo import make_conninfo

from app.config import Settings
from app.database.context import ContextSigner
from app.dev.run import login_url
from app.security.tokens import Caller
from tests.load.harness import KEYS, headers_at, prepared_server, served

CLAIMS, ROUNDS, REQUESTS, AT_ONCE = 2000, 9, 1000, 2

UNSIGN = r"""
do $$
declare
    signed record;
begin
    for signed in select * from pg_policies where policyname ~ '_(context|requires_context)$' loop
        execute format('drop policy %I on %I.%I', signed.policyname, signed.schemaname, signed.tablename);
    end loop;
end
$$;
create or replace function context.verify_proof(p_proof text, p_message text) returns void
language plpgsql stable as 'begin end';
create or replace function context.is_valid_proof(p_proof text, p_message text, inner_pad bytea, outer_pad bytea) returns boolean
language sql stable return true;
create or replace function context.hmac_sha256(inner_pad bytea, outer_pad bytea, message bytea) returns bytea
language sql immutable return ''::bytea;
create or replace function context.required_id(p_role name, p_what text default 'organization_id') returns uuid
language sql stable return nullif(current_setting('app.' || p_what), '')::uuid;
create or replace function context.verified_id(p_role name, p_what text default 'organization_id') returns uuid
language sql stable return nullif(current_setting('app.' || p_what), '')::uuid;
"""


@dataclass
class Side:
    """A database and its API process."""

    url: str
    address: str
    pid: int
    headers: dict[str, str]

    def measured(self, path: str) -> tuple[float, float, float]:
        """Milliseconds of a request: elapsed, CPU of PostgreSQL, CPU of the API."""
        before, started = self._cpu(), time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as clients:
            list(clients.map(self._ask, [path] * AT_ONCE))
        elapsed, after = time.perf_counter() - started, self._cpu()
        spent = (elapsed * AT_ONCE, *(late - early for late, early in zip(after, before, strict=True)))
        return tuple(one / REQUESTS * 1000 for one in spent)  # type: ignore[return-value]

    def _ask(self, path: str) -> None:
        connection = http.client.HTTPConnection(self.address.removeprefix("http://"))
        for _ in range(REQUESTS // AT_ONCE):
            connection.request("GET", path, headers=self.headers)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body

    def _cpu(self) -> tuple[float, float]:
        """Seconds so far of the API's backends, whose number is constant, and of the API."""
        with psycopg.connect(self.url, autocommit=True) as admin:
            mine = "select pid from pg_stat_activity where datname = current_database() and usename = 'claims_api'"
            pids = [pid for (pid,) in admin.execute(mine)]
        assert len(pids) == AT_ONCE
        return sum(_spent(pid) for pid in pids), _spent(self.pid)


def _spent(pid: int) -> float:
    return sum(psutil.Process(pid).cpu_times()[:2])


def seed_claims(url: str, patient: str, provider: str) -> str:
    """Creates this number of claims, and returns the id of one of them."""
    with psycopg.connect(url, autocommit=True) as admin:
        with admin.transaction():
            admin.execute("set local search_path = app")
            admin.execute(
                "select set_config('role', context.begin_request(organization_id, user_id, null, 'load', '', 'sql', false), true) "
                "from users"
            )
            made = admin.execute(
                "insert into claims (patient_id, provider_id, diagnosis_code, amount_cents, service_date) "
                "select %s, %s, 'E11.9', 10000 + n, current_date - 3 from generate_series(1, %s) n returning claim_id",
                [patient, provider, CLAIMS],
            ).fetchall()
        admin.execute("vacuum analyze")
    return str(made[0][0])


def unsign(url: str) -> None:
    """Replaces the functions of the database that check or compute signatures."""
    with psycopg.connect(url) as admin:
        admin.execute(UNSIGN)
        (assume,) = admin.execute("select pg_get_functiondef('context.establish'::regproc)").fetchone() or ("",)
        bare, signs = re.subn(r"select k\.inner_pad.*?(?=end\n\$)", "", assume, flags=re.DOTALL)
        assert signs == 1
        admin.execute(bare)
        # A scratch database: the API refuses to start on one that was changed by hand.
        admin.execute("update schema_admin.state set catalog = schema_admin.fingerprint()")


def unsigned(settings: Settings) -> Settings:
    """A copy of the database that requires no signatures."""
    assert settings.database_url
    with psycopg.connect(make_conninfo(settings.database_url, dbname="template1"), autocommit=True) as admin:
        admin.execute("create database unsigned template postgres")
    url = settings.database_url.replace("/postgres?", "/unsigned?")
    unsign(url)
    return msgspec.structs.replace(
        settings, database_url=url, api_database_url=login_url(url, "claims_api", "api-password")
    )


def signing() -> float:
    """Microseconds that the API needs to sign a context."""
    key = next(iter(Settings(token_keys=KEYS).context_keys().items()))
    signer, caller = ContextSigner(*key), Caller(uuid4(), uuid4(), uuid4(), "admin")
    sign = lambda: signer.sign_context(caller, request_id="load", address="", source="api", read_only=True)["proof"](1)  # noqa: E731
    return min(timeit.repeat(sign, number=1000, repeat=5)) * 1000


def compare(name: str, path: str, with_: Side, without: Side) -> None:
    """Prints the medians of both and their ratio."""
    rounds: list[tuple[float, float, float]] = []
    for side in (with_, without):
        side.measured(path)  # warm-up
    for _ in range(ROUNDS):
        rounds += [with_.measured(path), without.measured(path)]
    for what, *columns in zip(("elapsed", "CPU of PostgreSQL", "CPU of the API"), *rounds, strict=True):
        signed, free = statistics.median(columns[::2]), statistics.median(columns[1::2])
        print(f"{name:<20}{what:<20}{signed:>8.3f}{free:>10.3f}   x{signed / free:.3f}", flush=True)


def main() -> None:
    """Prints the table."""
    alone = {"POOL_SIZE": str(AT_ONCE)}
    with prepared_server() as (settings, patient, provider):
        claim = seed_claims(settings.database_url or "", patient, provider)
        copy = unsigned(settings)
        with served(settings, **alone) as one, served(copy, **alone) as two:
            sides = [
                Side(own.database_url or "", *api, headers_at(api[0])) for own, api in ((settings, one), (copy, two))
            ]
            print(
                f"{'milliseconds':<40}{'signed':>8}{'unsigned':>10}   medians of {ROUNDS} rounds of {REQUESTS} requests"
            )
            compare("list of 20 claims", "/api/claims?limit=20", *sides)
            compare("one claim", f"/api/claims/{claim}", *sides)
    print(f"the API signs in {signing():.1f} us")


if __name__ == "__main__":
    main()
