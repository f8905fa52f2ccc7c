"""Generates clients from the OpenAPI document with the generators that programmers use, and runs them against a real API.

`make clients`. The tools are installed into .clients, in the versions of requirements.txt and package.json. CLIENTS_DIR names another
folder. Without npm or Java, nothing is run.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path

from tests.load.harness import PASSWORD, running_api

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCUMENT = ROOT / "openapi.json"
TOOLS = Path(os.environ.get("CLIENTS_DIR") or ROOT / ".clients")
PYTHON, BIN = TOOLS / "venv" / "bin" / "python", TOOLS / "node_modules" / ".bin"
TIMEOUT_S = 300
TYPESCRIPT = {
    "strict": True,
    "target": "ES2022",
    "module": "Node16",
    "moduleResolution": "Node16",
    "lib": ["ES2022", "DOM", "DOM.Iterable"],
    "types": [],
    "outDir": "js",
}
"""The options of the compiler."""


def missing() -> str:
    """The reason why the clients can't be generated on this machine, or an empty text."""
    absent = [name for name in ("npm", "node", "java") if not shutil.which(name)]
    return f"{' and '.join(absent)} not found" if absent else ""


def install() -> None:
    """Installs the tools, unless these versions are installed already."""
    pins = [HERE / "requirements.txt", HERE / "package.json"]
    stamp, wanted = TOOLS / "installed", "".join(path.read_text() for path in pins)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"installing the generators into {TOOLS}", file=sys.stderr)
    venv.create(TOOLS / "venv", with_pip=True)
    call(PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", pins[0])
    shutil.copy(pins[1], TOOLS)
    # No script of a package is run.
    call(
        "npm",
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--no-package-lock",
        "--loglevel=error",
        folder=TOOLS,
    )
    stamp.write_text(wanted)


def call(*command: object, folder: Path | None = None, **environ: str) -> str:
    """Runs a command and returns its output. Raises RuntimeError with the output if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=os.environ | {"REDOCLY_TELEMETRY": "off", "PATH": f"{PYTHON.parent}:{os.environ['PATH']}"} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]}: exit status {done.returncode}\n{done.stdout[-6000:]}")
    return done.stdout


def lint(folder: Path) -> None:
    """redocly and spectral find nothing, and RE2 compiles every pattern."""
    call(BIN / "redocly", "lint", "--config", HERE / "redocly.yaml", DOCUMENT, folder=folder)
    call(BIN / "spectral", "lint", "--fail-severity", "hint", "--ruleset", HERE / "spectral.yaml", DOCUMENT)
    patterns = sorted(patterns_of(json.loads(DOCUMENT.read_text())))
    if not patterns:
        raise RuntimeError("the document has no pattern")
    compiled = "import json, re2, sys; [re2.compile(pattern) for pattern in json.loads(sys.argv[1])]"
    call(PYTHON, "-c", compiled, json.dumps(patterns))


def patterns_of(part: object) -> set[str]:
    """The patterns of a part of the document."""
    parts = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    own = {part["pattern"]} if isinstance(part, dict) and isinstance(part.get("pattern"), str) else set()
    return own.union(*map(patterns_of, parts))


def generate(folder: Path) -> None:
    """Every generator writes its client, without a warning about what it leaves out."""
    options = (
        "--config",
        HERE / "openapi_python_client.yaml",
        "--meta",
        "none",
        "--output-path",
        folder / "claims_client",
    )
    output = call(PYTHON, "-m", "openapi_python_client", "generate", "--path", DOCUMENT, "--fail-on-warning", *options)
    if "arning" in output:
        raise RuntimeError(output)
    call(BIN / "openapi-typescript", DOCUMENT, "-o", folder / "schema.ts")
    call(BIN / "openapi-ts", "-i", DOCUMENT, "-o", folder / "hey", "--no-log-file")
    for name in ("python", "go", "typescript-fetch"):
        output = call("openapi-generator-cli", "generate", "-i", DOCUMENT, "-g", name, "-o", folder / name)
        if "Exception" in output or "ERROR" in output:
            raise RuntimeError(output)


def compile_typescript(folder: Path) -> None:
    """Clients and programs pass the compiler's strict checks."""
    (folder / "package.json").write_text('{"type": "commonjs"}')
    (folder / "node_modules").symlink_to(TOOLS / "node_modules")
    for program in (HERE / "programs").glob("*.ts"):
        shutil.copy(program, folder)
    settings = {"compilerOptions": TYPESCRIPT, "include": ["*.ts", "hey/**/*.ts", "typescript-fetch/**/*.ts"]}
    (folder / "tsconfig.json").write_text(json.dumps(settings))
    call(BIN / "tsc", "-p", folder)


def check_python_types(folder: Path) -> None:
    """The program that uses openapi-python-client passes mypy's strict checks: status, errors and pages have types."""
    program = HERE / "programs" / "openapi_python_client.py"
    options = ("--strict", "--follow-imports=silent", "--config-file=", "--python-executable", PYTHON)
    call(sys.executable, "-m", "mypy", *options, program, folder=folder)


def run(folder: Path) -> None:
    """Every program works with a real API, over an embedded PostgreSQL."""
    with running_api() as api:
        environ = {
            "ADDRESS": api.address,
            "EMAIL": "admin@load.test",
            "PASSWORD": PASSWORD,
            "PATIENT": api.patient,
            "PROVIDER": api.provider,
            "PYTHONPATH": f"{folder}:{folder / 'python'}",
        }
        for program in sorted((HERE / "programs").glob("*.py")):
            print("  " + call(PYTHON, program, folder=folder, **environ).strip())
        for program in sorted((HERE / "programs").glob("*.ts")):
            if program.name != "common.ts":
                print("  " + call("node", folder / "js" / f"{program.stem}.js", **environ).strip())


STEPS: list[Callable[[Path], None]] = [lint, generate, compile_typescript, check_python_types, run]


def main() -> None:
    """Runs the steps. The exit status is 1 if one fails."""
    if reason := missing():
        print(f"clients: skipped, {reason}")
        return
    TOOLS.mkdir(exist_ok=True)
    install()
    with tempfile.TemporaryDirectory(prefix="generated-", dir=TOOLS) as folder:
        for step in STEPS:
            print(f"{step.__name__}: {step.__doc__}", flush=True)
            step(Path(folder))


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        sys.exit(f"clients: {error}")
