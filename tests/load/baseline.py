"""Baseline of the API: pgbench runs the same statement in the same transaction, with plain columns instead of JSON and no HTTP.

Ways: `rls` as the API's login, four round trips; `flush` the same in one, as the API sends it; `where` four round trips without
policies, with the policies' conditions in the statement.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from app.database.context import BEGIN_CONTEXT
from app.dev.postgres import binaries
from tests.load.cpu import TICK, Cpu

CLIENTS = 16
STARTS = 8
"""Transactions of each client for warm-up: PostgreSQL makes five custom plans before it chooses a generic one."""
PLANNED_ONCE = {"PGOPTIONS": "-c plan_cache_mode=force_generic_plan"}
"""One generic plan, as for the API's own statements.

A statement by hand has the organization as a parameter, so PostgreSQL would plan it at every execution.
"""
ACTING = ["claims_admin", "claims_processor", "claims_provider", "claims_trigger_definer"]
"""Roles under policies in an operation: the caller's, and that of its triggers."""


@dataclass(frozen=True)
class Baseline:
    """The result of pgbench: transactions a second, and PostgreSQL's CPU for one in milliseconds."""

    rate: float
    cpu: float


@dataclass(frozen=True)
class Statement:
    """The statement of a transaction.

    text: `{own}` is the place of the policies' conditions. before: pgbench's own lines, which draw numbers.
    """

    text: str
    before: str = ""
    read_only: bool = True

    def script(self, way: str, own: str) -> str:
        """The transaction as a script of pgbench."""
        enter = BEGIN_CONTEXT.replace("%(", ":").replace(")s", "")
        body = f"{enter};\n{self.text.format(own=own if way == 'where' else '')}"
        if way == "flush":
            return f"{self.before}\n\\startpipeline\n{body}\n\\endpipeline\n"
        return f"{self.before}\nbegin;\n{body}\ncommit;\n"


@contextmanager
def without_policies(admin: psycopg.Connection[Any]) -> Iterator[None]:
    """Disables the policies of the product roles. The role stays the same, because triggers depend on it."""
    try:
        for role in ACTING:
            admin.execute(f"alter role {role} bypassrls")
        yield
    finally:
        for role in ACTING:
            admin.execute(f"alter role {role} nobypassrls")


def run_baseline(url: str, cpu: Cpu, script: str, given: Mapping[str, Any], seconds: float) -> Baseline:
    """The throughput of CLIENTS clients in this time, without their start.

    seconds: less than the lifetime of a signature, a minute. Below one second: a few transactions of each client, with their
    start.
    """
    values = {name: _as_text(value) for name, value in given.items()}
    if "status" in values:  # as a literal, like the API
        script = script.replace(":status", f"'{values.pop('status')}'")
    if seconds < 1:
        transactions, rate, spent = _pgbench(url, cpu, script, values, ["-t", str(STARTS)])
        return Baseline(rate, max(spent, TICK) / transactions * 1000)
    start = _pgbench(url, cpu, script, values, ["-t", str(STARTS)])
    whole = _pgbench(url, cpu, script, values, ["-T", str(round(seconds))])
    return Baseline(whole[1], (whole[2] - start[2]) / (whole[0] - start[0]) * 1000)


def _pgbench(url: str, cpu: Cpu, script: str, values: Mapping[str, str], length: list[str]) -> tuple[int, float, float]:
    """Transactions, transactions a second, PostgreSQL's CPU seconds."""
    at = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        given = [part for name, value in values.items() for part in ("-D", f"{name}={value}")]
        how = ["-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "1", *length, *given, "-f", file.name]
        where = ["-h", at["host"], "-U", "claims_api", at.get("dbname", "postgres")]
        command = [str(binaries() / "pgbench"), *how, *where]
        before = cpu.quiet()
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | PLANNED_ONCE)
        spent = cpu.quiet() - before
    assert done.returncode == 0, f"{done.stderr}\n{script}"
    assert "failed transactions: 0 " in done.stdout, done.stdout
    transactions, rate = (
        re.search(rf"^{what}([0-9.]+)", done.stdout, re.MULTILINE) for what in (".*processed: ", "tps = ")
    )
    assert transactions
    assert rate
    return int(transactions.group(1)), float(rate.group(1)), spent


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    return str(value).lower() if isinstance(value, bool) else str(value)
