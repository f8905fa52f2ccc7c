"""schemathesis over the running API, once for each role: no 5xx, no undocumented response, no accepted bad data.

CONTRACT_EXAMPLES limits the examples of each operation, CONTRACT_PHASES selects the phases; `make contract` uses more of both.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from app.security.tokens import make_token
from tests.load.harness import served
from tests.support.cast import KEYS, Cast, caller

HERE = Path(__file__).parent
EXAMPLES = os.environ.get("CONTRACT_EXAMPLES", "2")
PHASES = os.environ.get("CONTRACT_PHASES", "examples,fuzzing")
WHOLE = os.environ.get("CONTRACT_PHASES", "examples,coverage,fuzzing")
"""The role with most rights tries every form of bad data, because validation precedes the check of the role."""
SEED = os.environ.get("CONTRACT_SEED", "1")


def spare_tokens(connection, cast: Cast, who: str) -> str:
    """Tokens of sessions that may end, for the calls that end one."""
    opened = connection.execute(
        "insert into auth.sessions (organization_id, session_id, user_id) "
        "select %s, gen_random_uuid(), %s from generate_series(1, 3000) returning session_id",
        [cast.organization, cast.ids[who]],
    )
    return "\n".join(make_token(replace(caller(cast, who), session_id=one), KEYS) for (one,) in opened)


def facts(cast: Cast) -> dict[str, str]:
    """Values for the hooks where a reference must be real."""
    return {
        "patientId": str(cast.tom_patient),
        "providerId": str(cast.ana_provider),
        "userId": str(cast.pia),
        "toUserId": str(cast.paul),
    }


@pytest.mark.parametrize("who", ["alma", "pia", "ana", "tom"])
def test_the_api_fulfills_its_contract(settings, as_root, cast, who, tmp_path):
    token = make_token(caller(cast, who), KEYS)
    (tmp_path / "spare").write_text(spare_tokens(as_root, cast, who))
    with served(settings) as (address, _):
        schema = tmp_path / "openapi.json"
        schema.write_bytes(httpx.get(f"{address}/openapi.json").content)
        command = [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"), "run", str(schema),
            "--url", address,
            "--checks", "all", "--phases", WHOLE if who == "alma" else PHASES, "--max-examples", EXAMPLES, "--seed", SEED,
            # One, because ast.parse of Python 3.11 fails in two threads at a time ("AST constructor recursion depth mismatch").
        "--workers", "1", "--continue-on-failure", "--no-color", "--warnings", "off",
        ]  # fmt: skip
        environ = os.environ | {
            "CONTRACT_URL": address,
            "CONTRACT_TOKEN": token,
            "CONTRACT_SPARE": str(tmp_path / "spare"),
            "CONTRACT_FACTS": json.dumps(facts(cast)),
            "SCHEMATHESIS_HOOKS": "tests.http.contract_hooks",
            "PYTHONPATH": str(HERE.parents[1]),
        }
        done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=1700)
        print(done.stdout[-3000:])
        # Control: the token was valid to the end, so the API itself was tested and not its authentication.
        me = httpx.get(f"{address}/api/auth/me", headers={"Authorization": f"Bearer {token}"})
        assert me.status_code == 200
        assert done.returncode == 0, f"{done.stdout[-20_000:]}{done.stderr[-3000:]}"
