"""Rules of pgrls that need a changed schema; pgrls.toml names this module, and disables the originals.

pgrls checks one policy, one trigger, one index at a time. PostgreSQL returns a row that some permissive policy and every
restrictive one accept. So a permissive policy `true` is no fault together with a tenant policy, and is one without.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pgrls.ast_utils import parse_expr
from pgrls.model import Policy, Schema, Table
from pgrls.rules import all_rules
from pgrls.violations import Violation

DEFINERS = {
    "claims_auth_definer", "claims_context_definer", "claims_trigger_definer", "claims_audit_sealer",
    "claims_check_admin", "claims_check_processor", "claims_check_provider", "claims_check_patient",
}  # fmt: skip
"""The owners of the definer functions. No login is one of these or may become one (sql/audit/070)."""


def tenant_policy(table: Table) -> Policy | None:
    """The policy `<table>_tenant` if it restricts every command of every role."""
    for policy in table.policies:
        whole = not policy.permissive and policy.command == "ALL" and "PUBLIC" in policy.roles
        if whole and policy.name == f"{table.name}_tenant":
            return policy
    return None


def _variables(rule: str | None) -> str | None:
    """A rule with the value of context.variable in its place, and operators in place of context.matches and context.differs."""
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
    """The schema with current_setting in place of context.variable in every policy, and operators in place of functions.

    The rules and the prover know current_setting by name, as a value of the caller's that is constant in a statement. They assume
    any value for a function that they do not know. context.variable is that expression and a check that raises if it is no id
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
    """The schema without the policies `<table>_requires_context` of tables with a tenant policy.

    They check the rows that a statement reads. The tenant policy and `<table>_context` check those that it writes.
    """
    return replace(
        schema,
        tables=tuple(
            replace(
                table,
                policies=tuple(
                    policy
                    for policy in table.policies
                    if policy.permissive or policy.name != f"{table.name}_requires_context" or not tenant_policy(table)
                ),
            )
            for table in schema.tables
        ),
    )


def without_tenant_policy(schema: Schema) -> Schema:
    """Tables without a tenant policy, with the policies for roles other than the definers."""
    return replace(
        schema,
        tables=tuple(
            replace(table, policies=tuple(policy for policy in table.policies if not set(policy.roles) <= DEFINERS))
            for table in schema.tables
            if not tenant_policy(table)
        ),
    )


def without_definers(schema: Schema) -> Schema:
    """Definer functions of other owners than the definers, and triggers that run one; others run as their caller."""
    functions = tuple(one for one in schema.security_definer_functions if one.owner not in DEFINERS)
    named = {one.qualified_name for one in functions}
    return replace(
        schema,
        security_definer_functions=functions,
        tables=tuple(
            replace(table, triggers=tuple(one for one in table.triggers if one.function_qualified_name in named))
            for table in schema.tables
        ),
    )


def within_one_tenant(schema: Schema) -> Schema:
    """The schema with the indexes as they serve one organization: without organization_id as their first column."""
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
    """A rule of pgrls, checked for a part of the schema."""

    def __init__(self, rule: str, part: Callable[[Schema], Schema]) -> None:
        self._rule = next(one for one in all_rules() if one.id == rule)
        self._part = part
        self.id, self.severity, self.title = f"OUR_{rule}", self._rule.severity, self._rule.title

    def check(self, schema: Schema, options: dict[str, Any]) -> list[Violation]:
        return [replace(found, rule_id=self.id) for found in self._rule.check(self._part(schema), options)]


RULES = [
    *(Ours(rule, without_tenant_policy) for rule in ("SEC005", "SEC006", "SEC007", "SEC008", "SEC028", "SEC038")),
    *(Ours(rule, without_definers) for rule in ("SEC013", "SEC014")),
    Ours("SEC020", without_context_requirement),
    Ours("PERF003", within_one_tenant),
]
