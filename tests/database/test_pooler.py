"""The API's own tests behind PgBouncer in transaction mode, over few shared connections; no context outlasts its transaction."""

import asyncio
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import msgspec
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from app.database.context import BEGIN_CONTEXT
from app.dev.postgres import _system_user
from app.main import create_app
from app.security.tokens import make_token
from tests.security.test_isolation import TABLES
from tests.support.cast import KEYS, caller, sign_context
from tests.support.databases import url_for

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

THE_API = os.environ.get("POOLER_MODULES", "resources/test_claim_work http/test_idempotency").split()
"""Test modules that use the API alone; `make pooler` runs more. With TEST_POOLER_URL any test uses a pooler."""

CONFIG = """
[databases]
* = {server}
[pgbouncer]
pool_mode = transaction
default_pool_size = {size}
listen_addr =
unix_socket_dir = {folder}
auth_type = trust
auth_file = {folder}/users
stats_users = claims_api
logfile = {folder}/log
{more}
"""


def prepares() -> bool:
    """Whether this PgBouncer supports prepared statements: 1.21 and newer."""
    version = subprocess.run([PGBOUNCER, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.findall(r"\d+", version)[:2])) >= (1, 21)


PREPARED = "on" if PGBOUNCER and prepares() else "off"


@contextmanager
def pgbouncer(server_url: str, size: int) -> Iterator[str]:
    """A PgBouncer with this number of server connections for each database; its URL, for claims_api only."""
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed")
    known = conninfo_to_dict(server_url)
    user: pwd.struct_passwd | None = _system_user() if os.geteuid() == 0 else None  # PgBouncer refuses to run as root
    with tempfile.TemporaryDirectory(prefix="claims-pooler-", dir="/tmp") as name:  # a socket's path must be short
        folder = Path(name)
        server = " ".join(f"{key}='{known[key]}'" for key in ("host", "port") if known.get(key))
        more = "max_prepared_statements = 100" if PREPARED == "on" else ""
        (folder / "ini").write_text(CONFIG.format(server=server, size=size, folder=folder, more=more))
        (folder / "users").write_text('"claims_api" "api-password"\n')
        identity = {}
        if user:
            for path in (folder, *folder.iterdir()):
                os.chown(path, user.pw_uid, user.pw_gid)
            identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        process = subprocess.Popen([PGBOUNCER, "-q", folder / "ini"], **identity)
        try:
            deadline = time.monotonic() + 10
            while not (folder / ".s.PGSQL.6432").exists():
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, "pgbouncer never listened"
                time.sleep(0.02)
            yield f"postgresql://claims_api@/?host={quote(name, safe='')}&port=6432"
        finally:
            process.kill()
            process.wait()


def transactions(pooler: str) -> int:
    """The number of transactions of all databases together."""
    with psycopg.connect(pooler, dbname="pgbouncer", autocommit=True, row_factory=dict_row) as console:
        return sum(row["xact_count"] for row in console.execute("show stats_totals", prepare=False).fetchall())


def test_the_api_passes_its_tests_behind_a_pooler(server_url):
    """Eight connections of the API share three of the server."""
    told = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    modules = [f"tests/{name}.py" for name in THE_API]
    with pgbouncer(server_url, size=3) as pooler:
        told |= {"TEST_DATABASE_URL": server_url, "TEST_POOLER_URL": pooler, "PREPARED_STATEMENTS": PREPARED}
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *modules],
            env=told,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout[-5000:]
        assert transactions(pooler) > 300  # control: they did use the pooler


@pytest.mark.parametrize("setting", ["on", "off"])
async def test_statements_are_prepared_unless_the_setting_is_off(settings, as_root, cast, setting):
    headers = {"Authorization": f"Bearer {make_token(caller(cast, 'alma'), KEYS)}"}
    app = create_app(msgspec.structs.replace(settings, pool_size=1, prepared_statements=setting))
    async with app.lifespan():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
            for _ in range(3):
                assert (await client.get("/api/claims")).status_code == 200
        # After the start of the API, which would refuse a catalog that was changed by hand.
        as_root.execute("grant execute on function pg_prepared_statement() to claims_api")
        kept = "select count(*) from pg_prepared_statements where statement like '%% from claims c%%'"
        assert bool((await app.state.pool.fetch([(kept, {})]))[0][0][0]) == (setting == "on")


@pytest.fixture
def shared(server_url, settings) -> Iterator[str]:
    """The API's URL of the test's database through a pooler with a single server connection for all clients."""
    with pgbouncer(server_url, size=1) as pooler:
        yield url_for(pooler, str(conninfo_to_dict(settings.database_url)["dbname"]), "claims_api", "api-password")


def test_its_clients_share_one_server_connection(shared):
    """The precondition of the tests below."""
    with psycopg.connect(shared, autocommit=True) as one, psycopg.connect(shared, autocommit=True) as two:
        pid = "select pg_backend_pid()"
        assert one.execute(pid).fetchone() == two.execute(pid).fetchone()


async def test_two_tenants_on_one_connection_each_see_their_own_rows(settings, shared, casts, as_root):
    own = {slug: {str(who.anas_claim), str(who.bens_claim)} for slug, who in casts.items()}
    seen = as_root.execute("select claim_id from claims").fetchall()
    assert {str(id_) for (id_,) in seen} == own["north"] | own["south"]  # control: all rows are in one table
    headers = {
        slug: {"Authorization": f"Bearer {make_token(caller(who, 'alma'), KEYS)}"} for slug, who in casts.items()
    }
    app = create_app(msgspec.structs.replace(settings, api_database_url=shared, prepared_statements=PREPARED))
    given: Counter[str] = Counter()
    async with app.lifespan():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for _ in range(50):
                asked = ["north", "south"] * 2
                answers = await asyncio.gather(*(client.get("/api/claims", headers=headers[slug]) for slug in asked))
                for slug, answer in zip(asked, answers, strict=True):
                    # One connection serves all, so a busy machine may time some of them out.
                    if answer.status_code == 503:
                        continue
                    assert {one["id"] for one in answer.json()["data"]} == own[slug]
                    given[slug] += 1
    assert min(given["north"], given["south"]) > 50  # control: most succeeded


def test_the_next_client_of_the_connection_has_no_context(shared, cast):
    with psycopg.connect(shared, prepare_threshold=None) as one, psycopg.connect(shared, prepare_threshold=None) as two:
        for table in TABLES:
            one.execute(BEGIN_CONTEXT, sign_context(cast, "alma"))
            assert one.execute("select count(*) from claims").fetchone() == (2,)  # control: one has a context
            one.commit()
            found = two.execute("select current_user, current_setting('app.mac', true)").fetchone()
            assert found == ("claims_api", "")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                two.execute(f"select count(*) from {table}")
            two.rollback()
            two.execute("set local role claims_admin")
            kept = table in ("idempotency_keys", "audit_seals")
            closed = psycopg.errors.InsufficientPrivilege if kept else psycopg.errors.InvalidAuthorizationSpecification
            with pytest.raises(closed):
                two.execute(f"select count(*) from {table}")
            two.rollback()
