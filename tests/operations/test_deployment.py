"""The files of an installation: systemd accepts the units, and each setting is documented where an operator looks for it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from app.config import EXAMPLE_SECRET, Settings

ROOT = Path(__file__).parents[2]
OPERATIONS = ROOT / "app" / "operations"
UNITS = OPERATIONS / "systemd"
VARIABLES = {field.name.upper() for field in msgspec.structs.fields(Settings)}
NOT_IN_UNITS = {"DATA_DIR", "FORCE"}
"""Variables of `make run`, and of a single command."""


def names(*paths: Path) -> set[str]:
    """The variables that environment files set or mention in a comment."""
    return {name for path in paths for name in re.findall(r"^(?:# )?([A-Z_]+)=", path.read_text(), re.MULTILINE)}


def set_in(path: Path) -> set[str]:
    """The variables that an environment file sets."""
    return set(re.findall(r"^([A-Z_]+)=", path.read_text(), re.MULTILINE))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", ["claims-api@.service", "claims-worker.service"])
def test_systemd_accepts_the_units(tmp_path, unit):
    text = (UNITS / unit).read_text()
    assert "/opt/claims/.venv/bin/python" in text
    # The program must exist, and other units of this machine must not matter.
    path = tmp_path / unit
    path.write_text(text.replace("/opt/claims/.venv/bin/python", sys.executable).replace("postgresql.service", ""))
    command = ["systemd-analyze", "verify", "--recursive-errors=no", str(path)]
    accepted = subprocess.run(command, capture_output=True, text=True)
    assert (accepted.returncode, accepted.stderr) == (0, "")
    path.write_text(path.read_text().replace("KillMode=mixed", "KillMode=sometimes"))
    assert "sometimes" in subprocess.run(command, capture_output=True, text=True).stderr  # control


@pytest.mark.parametrize("unit", ["claims-api@.service", "claims-worker.service"])
def test_no_service_reads_the_administrators_login(unit):
    (name,) = re.findall(r"^EnvironmentFile=/etc/claims/(\w+\.env)$", (UNITS / unit).read_text(), re.MULTILINE)
    assert "DATABASE_URL" in set_in(UNITS / "admin.env.example")  # control
    assert "DATABASE_URL" not in names(UNITS / f"{name}.example")


def test_each_variable_is_in_the_page_and_in_the_examples():
    page = (OPERATIONS / "README.md").read_text().partition("\n## Variables\n")[2].partition("\n## ")[0]
    rows = {name for line in page.splitlines() if line.startswith("| `") for name in re.findall(r"`([A-Z_]+)`", line)}
    assert sorted(VARIABLES - rows) == []
    assert sorted(VARIABLES - names(ROOT / ".env.example")) == []
    assert sorted(VARIABLES - NOT_IN_UNITS - names(*UNITS.glob("*.env.example"))) == []
    assert "TOKEN_KEYS" not in names(UNITS / "worker.env.example")


def test_the_example_secret_is_refused_in_production():
    assert EXAMPLE_SECRET in (UNITS / "api.env.example").read_text()
    assert "ENVIRONMENT=production" in (UNITS / "api.env.example").read_text()


def test_claims_admin_runs_a_command_with_all_variables(tmp_path):
    for name in ("api", "worker", "admin"):
        shutil.copy(UNITS / f"{name}.env.example", tmp_path / f"{name}.env")
    environ = {"PATH": os.environ["PATH"], "CLAIMS_ETC": str(tmp_path), "CLAIMS_HOME": str(tmp_path)}
    run = subprocess.run([UNITS / "claims-admin", "env"], env=environ, capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in run.stdout.splitlines())
    assert found["DATABASE_URL"] == "postgresql://claims_deploy:change-me-deploy@127.0.0.1:5432/claims"
    assert found["TOKEN_KEYS"] == f"2026a:{EXAMPLE_SECRET}"
    assert {"API_DATABASE_URL", "WORKER_DATABASE_URL"} <= found.keys()
