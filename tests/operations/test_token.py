"""`make token` prints an access token alone, and one line with the reason if there is none."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from app.dev.address import port_file
from app.dev.seed import PASSWORD as DEMO_PASSWORD
from app.dev.token import is_loopback
from app.security.passwords import hash_password
from tests.load.harness import served
from tests.operations.test_process_failures import free_port
from tests.support.cast import PASSWORD

ROOT = Path(__file__).parents[2]
Result = tuple[int, str, str]


@pytest.fixture
def api(settings) -> Iterator[str]:
    """The address of an API over the test's database."""
    with served(settings) as (address, _):
        yield address


@pytest.fixture
def token(tmp_path) -> Callable[..., Result]:
    """`make token` in an empty directory: (exit status, output, errors)."""

    def run(**environ: str) -> Result:
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | environ
        command = [sys.executable, "-m", "app.dev.token"]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    return run


def user_of(address: str, result: Result) -> tuple[str, str]:
    """Email and organization of the printed token's user."""
    status, output, problem = result
    assert (status, problem, output.count("\n")) == (0, "", 1)
    me = httpx.get(f"{address}/api/auth/me", headers={"Authorization": f"Bearer {output.strip()}"}).json()["data"]
    return me["email"], me["organization"]["slug"]


def test_the_token_of_an_account_is_printed(api, token, as_root):
    assert user_of(api, token(BASE_URL=api, EMAIL="ana@north.test", PASSWORD=PASSWORD)) == ("ana@north.test", "north")
    # Without PASSWORD, the demo accounts' password; with PORT, this machine's port; a proxy is not for this machine.
    as_root.execute("update auth.credentials set password_hash = %s", [hash_password(DEMO_PASSWORD)])
    environ = {"PORT": api.rpartition(":")[2], "HTTP_PROXY": f"http://127.0.0.1:{free_port()}"}
    assert user_of(api, token(EMAIL="ana@north.test", **environ)) == ("ana@north.test", "north")


def test_the_port_is_that_of_a_running_make_run(api, token, tmp_path):
    (tmp_path / ".data").mkdir()
    port_file(tmp_path / ".data").write_text(f"{api.rpartition(':')[2]}\n")
    assert user_of(api, token(EMAIL="ana@north.test", PASSWORD=PASSWORD)) == ("ana@north.test", "north")
    (tmp_path / ".data").rename(tmp_path / "other")
    found = token(EMAIL="ana@north.test", PASSWORD=PASSWORD, DATA_DIR=str(tmp_path / "other"))
    assert user_of(api, found) == ("ana@north.test", "north")


def test_the_slug_selects_one_of_several_organizations(api, token, as_root):
    as_root.execute("update app.users set email = 'ana@north.test' where email = 'ana@south.test'")
    account = {"BASE_URL": api, "EMAIL": "ana@north.test", "PASSWORD": PASSWORD}
    assert user_of(api, token(ORG="south", **account)) == ("ana@north.test", "south")
    assert user_of(api, token(ORG="north", **account)) == ("ana@north.test", "north")
    as_root.execute("update auth.credentials set proven_at = now()")  # now both count, and both match
    status, output, problem = token(**account)
    assert (status, output) == (2, "")
    assert "set ORG to the slug" in problem


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"EMAIL": ""}, "EMAIL is missing"),
        ({"EMAIL": "ana@north.test"}, "another password than the demo's (set PASSWORD)"),
        ({"PASSWORD": "wrong"}, "refused (401)"),
        ({"EMAIL": "ana@north.test", "PASSWORD": PASSWORD, "ORG": "south"}, "no active account ana@north.test in the"),
        ({"EMAIL": "no email"}, "refused (400): The request is invalid. See details.fields. email: "),
        ({"BASE_URL": "http://claims.example"}, "the demo password is not sent to http://claims.example"),
        ({"BASE_URL": "nothing"}, "PASSWORD is missing"),
        ({"BASE_URL": "nothing", "PASSWORD": PASSWORD}, "did not respond as the API does"),
    ],
)
def test_a_refusal_is_one_line_and_no_token(api, token, environ, reason):
    status, output, problem = token(**{"BASE_URL": api, "EMAIL": "x@north.test"} | environ)
    assert (status, output, problem.count("\n")) == (2, "", 1), problem
    assert problem.startswith("token: ")
    assert reason in problem


def test_a_missing_server_is_named(token):
    port = str(free_port())
    status, output, problem = token(EMAIL="ana@north.test", PORT=port)
    assert (status, output) == (2, "")
    assert problem.startswith(f"token: no server responds at http://127.0.0.1:{port}: ")


def test_only_this_machine_is_loopback():
    local = ["http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000", "http://127.9.9.9"]
    other = ["http://10.0.0.1", "http://claims.example", "http://localhost.example", "http://[2001:db8::1]", ""]
    assert [is_loopback(url) for url in local + other] == [True] * 4 + [False] * 5
