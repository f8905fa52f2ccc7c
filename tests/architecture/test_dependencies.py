"""The two lock files: production imports no package that only development installs."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME_TARGETS = [
    "api", "worker", "schema", "check", "psql", "queue-status", "audit", "audit-heads", "audit-verify", "totals-verify",
    "suspend", "resume", "unlock", "grant-reporting", "revoke-reporting",
]  # fmt: skip
BLOCK = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

BLOCKED = set(sys.argv[1].split(","))
assert not BLOCKED & set(sys.modules)
sys.meta_path.insert(0, Blocked())
for name in sys.argv[2:]:
    importlib.import_module(name)
if "app.main" in sys.argv:
    from app.config import Settings
    sys.modules["app.main"].create_app(Settings(token_keys={"a": b"0" * 32}))
print("imported", len(sys.argv) - 2)
"""


def pins(name: str) -> dict[str, str]:
    """The packages of a lock file, with their versions."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


def closure(requirements: list[str]) -> set[str]:
    """The packages that are installed for requirements, their own requirements included."""
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        for extra in {"", *requirement.extras}:
            if (key := (canonicalize_name(requirement.name), extra)) in found:
                continue
            found.add(key)
            needed = (Requirement(text) for text in distribution(requirement.name).requires or [])
            waiting += [one for one in needed if one.marker is None or one.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def modules() -> set[str]:
    """Every module of the product."""
    paths = [path.relative_to(ROOT).with_suffix("") for top in ("app", "jobs") for path in (ROOT / top).rglob("*.py")]
    return {".".join(path.parts).removesuffix(".__init__") for path in paths}


@pytest.fixture(scope="module")
def blocked() -> set[str]:
    """The top-level modules of the packages that only requirements-dev.lock has."""
    only = set(pins("requirements-dev.lock"))
    found = packages_distributions().items()
    return {module for module, names in found if {canonicalize_name(name) for name in names} <= only}


def imports(names: list[str], blocked: set[str]) -> subprocess.CompletedProcess[str]:
    """A process that imports modules where others can't be imported."""
    command = [sys.executable, "-c", BLOCK, ",".join(sorted(blocked)), *names]
    # The jobs read their login when they are imported; none of them connects.
    environ = os.environ | {"WORKER_DATABASE_URL": "postgresql://claims_worker:x@localhost/claims"}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)


def test_the_runtime_lock_has_the_packages_of_the_product_and_no_more():
    assert set(pins("requirements.lock")) == closure(PROJECT["dependencies"])


def test_the_development_lock_has_the_other_packages_and_includes_the_runtime_lock():
    both = closure(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"])
    assert set(pins("requirements-dev.lock")) == both - set(pins("requirements.lock"))
    assert "-r requirements.lock\n" in (ROOT / "requirements-dev.lock").read_text()


def test_production_imports_no_development_package(blocked):
    names = sorted(name for name in modules() if not name.startswith("app.dev"))
    assert {"app.main", "app.operations.migrate", "app.operations.psql", "jobs.worker"} <= set(names)
    run = imports(names, blocked)
    assert (run.stdout, run.returncode) == (f"imported {len(names)}\n", 0), run.stderr


@pytest.mark.parametrize("name", ["psutil", "pytest", "z3", "app.dev.postgres"])
def test_the_block_is_in_force(blocked, name):
    assert imports([name], set()).returncode == 0
    run = imports([name], blocked)
    assert run.returncode == 1
    assert "is blocked" in run.stderr


@pytest.mark.parametrize(("target", "installs"), [(name, False) for name in RUNTIME_TARGETS] + [("test", True)])
def test_no_runtime_target_installs_the_development_packages(target, installs):
    run = subprocess.run(["make", "-nB", target], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "-r requirements.lock" in run.stdout
    assert ("requirements-dev.lock" in run.stdout) == installs


def test_the_image_installs_the_runtime_lock_alone():
    build = yaml.safe_load((ROOT / "compose.yaml").read_text())["x-claims"]["build"]["dockerfile_inline"]
    assert "-r requirements.lock" in build
    assert "requirements-dev.lock" not in build
