"""Rules of pgrls where they have to be asked otherwise; pgrls.toml names this module and says which of them are let off.

pgrls judges one policy, one trigger, one index by itself. PostgreSQL lets a row through that some permissive policy and every
restrictive one admits, so a policy that says `true` above a floor is no hole; the same policy without the floor is one.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pgrls.ast_utils import parse_expr
from pgrls.model import Policy, Schema, Table
from pgrls.rules import all_rules
from pgrls.violations import Violation

GATES = {
    "claims_auth_definer", "claims_context_definer", "claims_trigger_definer", "claims_audit_sealer",
    "claims_check_admin", "claims_check_processor", "claims_check_provider", "claims_check_patient",
}  # fmt: skip
"""Who owns the definer functions. Nobody logs in as these or may become them (sql/audit/070)."""


def floor(table: Table) -> Policy | None:
    """The policy `<table>_tenant` where it narrows every command of everybody."""
    for policy in table.policies:
        whole = not policy.permissive and policy.command == "ALL" and "PUBLIC" in policy.roles
        if whole and policy.name == f"{table.name}_tenant":
            return policy
    return None


def _variables(rule: str | None) -> str | None:
    """A rule with what context.variable returns in its place, and operators in place of context.matches and context.differs."""
    if not rule:
        return rule
    rule = re.sub(r"context\.matches\(([\w.]+), (\( SELECT [^)]*\)[^)]*\))\)", r"(\1 = \2)", rule)
    rule = re.sub(r"context\.differs\((\w+), ('\w+'::text)\)", r"(\1 <> \2)", rule)
    rule = rule.replace(
        "context.variable('organization_id'::text)", "(current_setting('app.organization_id'::text))::uuid"
    )
    return re.sub(
        r"context\.variable\('(\w+)'::text\)", r"(NULLIF(current_setting('app.\1'::text), ''::text))::uuid", rule
    )


def written_out(schema: Schema) -> Schema:
    """With current_setting in every policy where context.variable stands, and operators for the functions that are theirs.

    The rules and the prover know current_setting by name, as a value of the caller's that is the same for the whole statement, and
    take a function they do not know for any value at all. context.variable is that expression and a check that raises where it is no id
    (sql/platform/context.sql; a mutant of its body that returns anything else is killed, mutants.py).
    """

    def rewritten(policy: Policy) -> Policy:
        using, check = _variables(policy.using_sql), _variables(policy.with_check_sql)
        if (using, check) == (policy.using_sql, policy.with_check_sql):
            return policy
        return replace(
            policy,
            using_sql=using,
            with_check_sql=check,
            using_ast=parse_expr(using) if using else None,
            with_check_ast=parse_expr(check) if check else None,
        )

    return replace(
        schema,
        tables=tuple(
            replace(table, policies=tuple(rewritten(policy) for policy in table.policies)) for table in schema.tables
        ),
    )


def without_context_requirement(schema: Schema) -> Schema:
    """Without the policies `<table>_requires_context` above a floor: they look at what a statement reads. What it writes the floor checks, and
    `<table>_context` beside it."""
    return replace(
        schema,
        tables=tuple(
            replace(
                table,
                policies=tuple(
                    policy
                    for policy in table.policies
                    if policy.permissive or policy.name != f"{table.name}_requires_context" or not floor(table)
                ),
            )
            for table in schema.tables
        ),
    )


def without_floor(schema: Schema) -> Schema:
    """Tables that no floor stands under, with the policies for others than the gates."""
    return replace(
        schema,
        tables=tuple(
            replace(table, policies=tuple(policy for policy in table.policies if not set(policy.roles) <= GATES))
            for table in schema.tables
            if not floor(table)
        ),
    )


def not_of_the_gates(schema: Schema) -> Schema:
    """Definer functions of other owners than the gates, and triggers that run one; others run as who caused them."""
    functions = tuple(one for one in schema.security_definer_functions if one.owner not in GATES)
    named = {one.qualified_name for one in functions}
    return replace(
        schema,
        security_definer_functions=functions,
        tables=tuple(
            replace(table, triggers=tuple(one for one in table.triggers if one.function_qualified_name in named))
            for table in schema.tables
        ),
    )


def behind_the_tenant(schema: Schema) -> Schema:
    """With the indexes as they serve one organization: what stands behind organization_id comes first."""
    return replace(
        schema,
        tables=tuple(
            replace(
                table,
                indexes=table.indexes
                + tuple(
                    replace(index, columns=index.columns[1:])
                    for index in table.indexes
                    if index.columns[:1] == ("organization_id",)
                ),
            )
            for table in schema.tables
        ),
    )


class Ours:
    """A rule of pgrls, asked about a part of the schema."""

    def __init__(self, rule: str, part: Callable[[Schema], Schema]) -> None:
        self._rule = next(one for one in all_rules() if one.id == rule)
        self._part = part
        self.id, self.severity, self.title = f"OUR_{rule}", self._rule.severity, self._rule.title

    def check(self, schema: Schema, options: dict[str, Any]) -> list[Violation]:
        return [replace(found, rule_id=self.id) for found in self._rule.check(self._part(schema), options)]


RULES = [
    *(Ours(rule, without_floor) for rule in ("SEC005", "SEC006", "SEC007", "SEC008", "SEC028", "SEC038")),
    *(Ours(rule, not_of_the_gates) for rule in ("SEC013", "SEC014")),
    Ours("SEC020", without_context_requirement),
    Ours("PERF003", behind_the_tenant),
]
