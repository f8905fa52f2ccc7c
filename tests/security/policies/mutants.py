"""Faults of the database's guard, generated from its live catalog: each removes one restriction.

Whatever is added to the schema is mutated from then on. Without a probe in probes.py its mutants survive and are named. A change
without an effect (`using (true)` where it is so already) is no mutant.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg

from tests.security.policies.scenarios import SIGNED

Connection = psycopg.Connection[Any]
OURS = "(select * from pg_roles where rolname like 'claims\\_%' and not rolbypassrls)"
"""The roles of the product; not the one that makes backups (sql/README.md)."""
GUARDED = "('app'::regnamespace, 'auth'::regnamespace, 'context'::regnamespace)"


class Mutant(NamedTuple):
    """sql injects the fault; its name is the text behind the last "  -- ", or the whole.

    about: words, one of which a relevant probe has in its line. role: the caller of a relevant probe. Empty: any.
    """

    sql: str
    about: tuple[str, ...] = ()
    role: str = ""

    @property
    def name(self) -> str:
        return self.sql.split("  -- ")[-1]

    @property
    def is_of_roles(self) -> bool:
        """Whether it changes roles, which belong to the whole server."""
        return bool(self.role and not self.about)


def policies(connection: Connection) -> Iterator[Mutant]:
    """Dropped, true instead of its rule, by a variable, without one of its conditions, without its check, for other roles."""
    for table, name, permissive, roles, command, rule, check in connection.execute(
        "select format('%I.%I', schemaname, tablename), policyname, permissive = 'PERMISSIVE', roles::text[], cmd, qual, with_check "
        f"from pg_policies where schemaname::regnamespace in {GUARDED}"
    ).fetchall():
        on = f"policy {name} on {table}"
        role = roles[0] if permissive else ""
        yield Mutant(f"drop {on}", (table,), role)
        if rule not in (None, "true"):
            yield Mutant(f"alter {on} using (true)", (table,), role)
        for clause, written in (("using", rule), ("with check", check)):
            if written and (by_variable := _OWN.sub("true", written)) != written:
                yield Mutant(f"alter {on} {clause} ({by_variable})", (table,), role)
        for rest in _weaker(rule or ""):
            yield Mutant(f"alter {on} using ({rest})", (table,), role)
        if (check or (rule if command in ("ALL", "UPDATE") else "true")) != "true":
            yield Mutant(f"alter {on} with check (true)", (table,), role)
        if permissive:
            yield Mutant(f"alter {on} to public", (table,))
        else:
            yield Mutant(f"alter {on} to claims_patient", (table,))
            rules = (f" using ({rule})" if rule else "") + (f" with check ({check})" if check else "")
            again = f"create {on} as permissive for {command} to {', '.join(roles)}{rules}"
            yield Mutant(f"drop {on}; {again}  -- {on} made permissive", (table,))


_OWN = re.compile(
    r"context\.matches\([\w.]+, \( SELECT context\.(?:required_id|verified_id)\(CURRENT_USER, '\w+'::text\) AS \w+\)\)"
)
_FOR_THE_PLANNER = re.compile(r"\(\w+ = context\.variable\('(?:user|provider|patient)_id'")


def _weaker(rule: str) -> list[str]:
    """The rule without one of its conditions, for each; none if there is only one. As pg_get_expr formats it: ((a) AND (b))."""
    conditions, depth, start = [], 0, 1
    for place, character in enumerate(rule):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 1 and rule.startswith(" AND ", place):
            conditions.append(rule[start:place])
            start = place + 5
    conditions.append(rule[start:-1])
    if len(conditions) == 1:
        return []
    return [
        " AND ".join(conditions[:place] + conditions[place + 1 :])
        for place, condition in enumerate(conditions)
        if not _FOR_THE_PLANNER.match(condition)  # context.matches next to it has the same effect
    ]


def tables(connection: Connection) -> Iterator[Mutant]:
    """Without row-level security, and without it for the owner."""
    for (table,) in connection.execute(
        "select oid::regclass::text from pg_class where relkind in ('r', 'p') and relnamespace in " + GUARDED
    ).fetchall():
        yield Mutant(f"alter table {table} disable row level security", (table,))
        yield Mutant(f"alter table {table} no force row level security", (table,))


def roles(connection: Connection) -> Iterator[Mutant]:
    """With an attribute that bypasses everything, or a member of another role."""
    for (role,) in connection.execute(f"select rolname from {OURS} r").fetchall():
        for attribute in ("bypassrls", "superuser", "createrole"):
            yield Mutant(f"alter role {role} {attribute}", role=role)
    for role, member in connection.execute(
        f"select r.rolname, m.rolname from {OURS} r, {OURS} m "
        "where not pg_has_role(m.oid, r.oid, 'member') and not pg_has_role(r.oid, m.oid, 'member')"
    ).fetchall():
        yield Mutant(f"grant {role} to {member}", role=member)


def foreign_keys(connection: Connection) -> Iterator[Mutant]:
    """Every key of more than one column by its last column alone, and no key at all."""
    for table, name, column, target, there in connection.execute(
        "select k.conrelid::regclass::text, k.conname, a.attname, k.confrelid::regclass::text, t.attname from pg_constraint k "
        "join pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[cardinality(k.conkey)] "
        "join pg_attribute t on t.attrelid = k.confrelid and t.attnum = k.confkey[cardinality(k.conkey)] "
        "where k.contype = 'f' and k.conparentid = 0 and cardinality(k.conkey) > 1 and k.connamespace in " + GUARDED
    ).fetchall():
        drop = f"alter table {table} drop constraint {name}"
        plain = f"foreign key ({column}) references {target} ({there})"
        yield Mutant(drop, (table,), "root")
        made = f"alter table {target} add unique ({there}); alter table {table} add {plain}"
        yield Mutant(f"{drop}; {made}  -- {drop}, add {plain}", (table,), "root")


def grants(connection: Connection) -> Iterator[Mutant]:
    """Every right on a table that a role with usage of the schema does not have; a right on columns for the whole table."""
    for privilege, table, role in connection.execute(
        "select lower(privilege), c.oid::regclass::text, r.rolname from pg_class c join pg_namespace n on n.oid = c.relnamespace, "
        f"{OURS} r, "
        "unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) as privilege "
        "where n.nspname in ('app', 'auth', 'context', 'schema_admin', 'procrastinate') and c.relkind in ('r', 'p') "
        "and has_schema_privilege(r.oid, n.oid, 'usage') "
        "and not has_table_privilege(r.oid, c.oid, privilege)"
    ).fetchall():
        yield Mutant(f"grant {privilege} on {table} to {role}", (table,), role)


def triggers(connection: Connection) -> Iterator[Mutant]:
    for name, table in connection.execute(
        "select t.tgname, t.tgrelid::regclass::text from pg_trigger t join pg_class c on c.oid = t.tgrelid "
        "where not t.tgisinternal and t.tgparentid = 0 and c.relnamespace in " + GUARDED
    ).fetchall():
        yield Mutant(f"drop trigger {name} on {table}", (table,))


def functions(connection: Connection) -> Iterator[Mutant]:
    """Definer functions whose names depend on the caller; a function for every role, or for one without the right."""
    for call, about, definer, public, others in connection.execute(
        "select p.oid::regprocedure::text, format('%I.%I(', n.nspname, p.proname), p.prosecdef, "
        "exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0), "
        f"array(select r.rolname::text from {OURS} r where has_schema_privilege(r.oid, n.oid, 'usage') "
        "and not has_function_privilege(r.oid, p.oid, 'execute')) "
        "from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.oid in " + GUARDED
    ).fetchall():
        if definer:
            yield Mutant(f"alter function {call} reset search_path", (about,))
        if not public:
            yield Mutant(f"grant execute on function {call} to public", (about,))
        for role in others:
            yield Mutant(f"grant execute on function {call} to {role}", (about,), role)


BODIES = [
    ("context.read_id", "if not context.is_valid", "if context.is_valid"),
    ("context.read_id", "return context.unsigned_id(p_what, ", "return context.variable(p_what); return context.unsigned_id(p_what, "),
    ("context.read_id", "return nullif(", "return null; return nullif("),
    ("context.required_id", "true", "false"),
    ("context.verified_id", "false", "true"),
    ("context.is_valid", "(current_setting('app.mac'::text, true) = "
     "encode(context.hmac_sha256(inner_pad, outer_pad, context.signature_input()), 'hex'::text))", "true"),
    ("context.is_valid", "ARRAY['claims_auth_definer'::name, 'claims_trigger_definer'::name]",
     "ARRAY['claims_auth_definer'::name, 'claims_trigger_definer'::name, p_role]"),
    ("context.is_valid", "ARRAY['claims_auth_definer'::name, 'claims_trigger_definer'::name]",
     "ARRAY['claims_auth_definer'::name, 'claims_trigger_definer'::name, 'claims_admin'::name]"),
    ("context.unsigned_id", "r.login = session_user and", ""),
    ("context.unsigned_id", "noted is null and p_raises", "false"),
    ("context.unsigned_id", "and r.organization_id = context.variable('organization_id')", ""),
    ("context.is_operator", "pg_has_role(SESSION_USER, 'claims_operator'::name, 'member'::text)", "true"),
    ("context.raise_unverified", "raise exception", "return null; raise exception"),
    ("context.variable", "return context.raise_unverified()", "return null"),
    ("context.variable", "return case", "return null; return case"),
    ("context.equal(uuid, uuid)", "uuid_eq", "uuid_ne"),
    ("context.equal(text, text)", "texteq", "textne"),
    ("context.matches", "CASE", "of_row IS NOT NULL OR CASE"),
    ("context.differs", "CASE", "of_row IS NOT NULL OR CASE"),
    ("context.verify_proof", "begin", "begin return;"),
    ("context.verify_proof", "and k.kid <> 'self'", ""),
    ("context.verify_proof", "is not true", "is false"),
    ("context.is_valid_proof", "context.is_signed(p_proof, p_message, inner_pad, outer_pad)", "true"),
    ("context.is_signed", "+ 4)))", "+ 4)) or true)"),
    ("context.is_signed", "split_part(p_proof, ':'::text, 3))) + 4)",
     "split_part(p_proof, ':'::text, 3))) + 4), 64"),
    ("context.is_valid_proof", "WHEN (pg_backend_pid())::text THEN", "WHEN nullif(split_part(p_proof, ':', 3), '0') THEN"),
    ("context.is_valid_proof", ">= ('-5'::integer)::numeric", "is not null"),
    ("context.is_valid_proof", "<= (65)::numeric", "is not null"),
    ("context.is_valid_proof", ">= (0)::numeric", "is not null"),
    ("context.is_valid_proof", "<= (10)::numeric", "is not null"),
    ("context.is_valid_proof", "<= (10)::numeric", "<= 65"),
    ("context.verify_call", "perform context.verify_proof(", "perform concat("),
    ("context.verify_call", "octet_length(field.value) || ':' || ", ""),
    ("context.verify_call", "'~'", "'0:'"),
    ("context.begin_request", "keys.api_outer_pad) is not true", "keys.api_outer_pad) is null"),
    ("context.begin_request", "and api.kid <> 'self'", ""),
    ("context.begin_request", "e'\\n') > 0", "e'\\n') > 999"),
    ("context.begin_request", "e'\\n', p_read_only", "e'\\n', false"),
    ("context.begin_request", " and u.active", ""),
    ("context.begin_request", " and o.suspended_at is null", ""),
    ("context.begin_request", " and s.user_id = u.user_id", ""),
    ("context.begin_request", "and s.ended_at is null", ""),
    ("context.begin_request", "caller.in_session or", "caller.in_session is not null or"),
    ("context.begin_request", " and context.is_operator()", ""),
    ("context.begin_request", "if p_read_only", "if false"),
    ("context.begin_job", "perform context.switch_event(p_event_id)", "perform p_event_id"),
    ("context.switch_event", "if not exists", "if false and not exists"),
    *((f"app.{name}", "context.required_id(current_user)", "context.variable('organization_id')")
      for name in ("ready_jobs", "mark_jobs_succeeded", "renew_job_start", "release_successor")),
    *((f"app.{name}", "j.args ->> 'organization_id' = current_setting('app.organization_id')", "true")
      for name in ("ready_jobs", "mark_jobs_succeeded")),
    ("app.tenant_key", "and c.relnamespace = 'app'::regnamespace", ""),
    ("auth.log_out", "context.required_id(current_user, 'user_id')", "context.variable('user_id')"),
    *((f"auth.{function}", "perform context.verify_call(", "perform concat(") for function in SIGNED),
    *(("auth.open_session", f", {argument}", "") for argument in (
        "p_organization_id::text", "p_user_id::text", "p_session_id::text", "encode(p_refresh_hash, 'hex')")),
    ("auth.open_session", "bigint::text, p_new_hash", "bigint::text"),
    *(("context.reset_session", part, "") for part in (
        "set session authorization default;", "reset all;", "execute 'close all';", "perform pg_catalog.pg_advisory_unlock_all();")),
    ("context.signature_input", "current_setting('transaction_read_only'::text)", "''::text"),
    *(("context.signature_input", f"current_setting('app.{name}'::text, true)", "''::text") for name in (
        "organization_id", "user_id", "session_id", "role", "provider_id", "patient_id", "request_id", "address", "source")),
]  # fmt: skip
"""A function that checks a context or a tenant by itself, a part of it, and a weaker replacement."""


def bodies(connection: Connection) -> Iterator[Mutant]:
    for function, old, new in BODIES:
        kind = "regprocedure" if "(" in function else "regproc"
        (body,) = connection.execute(f"select pg_get_functiondef(%s::{kind})", [function]).fetchone()  # type: ignore[misc]
        assert old in body, f"{function} has no {old}"
        yield Mutant(
            f"{body.replace(old, new, 1)}  -- {function}: {old} -> {new}",
            ("28000", "CLOCK", "ENDED", "25006", f"{function.partition('(')[0]}("),
        )


KINDS = {kind.__name__: kind for kind in (policies, tables, roles, foreign_keys, grants, triggers, functions, bodies)}

EQUIVALENT: dict[str, str] = {
    "drop trigger claims_35_assignment on app.claims": "has an effect only while the assignee changes in another transaction; "
    "tests/resources/test_claim_changes.py assigns during a deactivation",
}
"""Mutants without an effect, and why. One that is killed after all does not belong here."""
