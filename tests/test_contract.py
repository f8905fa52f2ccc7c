"""schemathesis over the running API, once per role, all its checks on: no 5xx, no undocumented answer, no accepted bad data.

CONTRACT_EXAMPLES bounds what is generated for each operation, CONTRACT_PHASES says how; `make contract` asks for more of both.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from app.tokens import make_token
from tests.conftest import KEYS, PASSWORD, Cast, caller
from tests.load.stand import served

HERE = Path(__file__).parent
EXAMPLES = os.environ.get("CONTRACT_EXAMPLES", "2")
PHASES = os.environ.get("CONTRACT_PHASES", "examples,coverage,fuzzing")
SEED = os.environ.get("CONTRACT_SEED", "1")


def facts(cast: Cast, who: str) -> dict[str, str]:
    """What the hooks put where a reference must be real."""
    return {
        "patientId": str(cast.tom_patient),
        "providerId": str(cast.ana_provider),
        "userId": str(cast.pia),
        "toUserId": str(cast.paul),
        "email": cast.emails[cast.ids[who]],
        "password": PASSWORD,
    }


@pytest.mark.parametrize("who", ["alma", "pia", "ana", "tom"])
def test_the_api_keeps_its_own_contract(settings, cast, who, tmp_path):
    with served(settings) as (address, _):
        schema = tmp_path / "openapi.json"
        schema.write_bytes(httpx.get(f"{address}/openapi.json").content)
        command = [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"), "run", str(schema),
            "--url", address, "--header", f"Authorization: Bearer {make_token(caller(cast, who), KEYS)}",
            "--checks", "all", "--phases", PHASES, "--max-examples", EXAMPLES, "--seed", SEED,
            "--workers", "2", "--continue-on-failure", "--no-color", "--warnings", "off",
        ]  # fmt: skip
        environ = os.environ | {
            "CONTRACT_FACTS": json.dumps(facts(cast, who)),
            "SCHEMATHESIS_HOOKS": "tests.contract_hooks",
            "PYTHONPATH": str(HERE.parent),
        }
        done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=1700)
        print(done.stdout[-3000:])
        assert done.returncode == 0, f"{done.stdout[-20_000:]}{done.stderr[-3000:]}"
