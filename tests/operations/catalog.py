"""Names of version 0033 that changed, and a search of the catalog for them; rows and facts in the new names."""

import json
from typing import Any

import psycopg

TABLES = {
    "ctx.keys": "context.keys",
    "ctx.reporters": "context.reporting_logins",
    "auth.windows": "auth.rate_limits",
    "auth.tenants": "auth.organization_lookup",
    "auth.touched": "auth.unsealed_entries",
    "auth.kept_answers": "auth.idempotency_usage",
    "auth.denials": "auth.denial_counters",
    "app.claim_tallies": "app.claim_totals",
    "app.claim_tally_changes": "app.claim_total_changes",
}
COLUMNS = {"era": "cluster_epoch"}
"""New names by the old ones."""
NOT_COMPARED = {
    "app.claim_transitions": {"scope", "needs_reason", "needs_denial_reason", "rule"},
    "app.job_processing_logs": {"attempt_token", "idempotency_key", "last_claim_created_at", "last_claim_id"},
    "app.patient_status_events": {"sender_provider_id"},
}
"""Columns of a table that later versions have removed or added."""
FUNCTIONS = (
    "enter|enter_job|turn_to|assume|assign|checked|entered|verified|unsigned|not_verified|same|fits|stated|mac|"
    "role_name|proves|refuse_proof|verify|take|forgive|sweep_windows|refuse|refuse_now|refusal|legal_move|"
    "refuse_move|check_move|move_claim|make_claim|touch_claim|record_status|link_care|claim_problems|"
    "review_submitted|settle_visit|undo_last|left_alone|is_undone|move_claims|bulk_move|finish_event|run_job|"
    "fail_job|waiting_jobs|end_jobs|forget_jobs|record_act|tally_of|tally_claim|fold_organization|"
    "fold_claim_tallies|counted_tallies|recount_claim_tallies|tallied_claims|finds|sees_as_admin|"
    "sees_as_processor|sees_as_provider|sees_as_patient|all_words|utc|major_units|claim_on_wire|audit_era|"
    "take_key|window_of|began|bound_answers|find_hash|login_failed|keep_answer|kept_answers|answers_quota|take_next_claim|close_denials|add_tenant"
)
"""Old names of functions, and of one type."""
WORDS = (
    "_10_make$|_10_move$|_20_touch$|_30_record$|(^|_)(gate|usher|recorder|ctx|tally|tallies|tallied|tenants|touched|windows|reporters|era|entered)(_|$)|(?<!audit_)sealer|"
    "^claims_as_|^(denials|kept_answers)(_|$)|link_care|add_tenant"
)
"""Parts of old names, as a regular expression."""

NAMES = """
with ours as (
    select oid from pg_namespace where nspname in ('app', 'auth', 'ctx', 'context', 'procrastinate', 'schema_admin')),
relation as (select c.oid, c.relname, c.relkind from pg_class c join ours on ours.oid = c.relnamespace)
select n.kind, n.name
from (
    select 'role', rolname from pg_roles
    union all select 'schema', nspname from pg_namespace
    union all
    select case relkind when 'i' then 'index' when 'S' then 'sequence' when 'c' then 'type' else 'table' end, relname from relation
    union all
    select 'column', a.attname from pg_attribute a join relation r on r.oid = a.attrelid
    where a.attnum > 0 and not a.attisdropped and r.relkind in ('r', 'c')
    union all select 'constraint', k.conname from pg_constraint k join ours on ours.oid = k.connamespace
    union all select 'policy', p.polname from pg_policy p join relation r on r.oid = p.polrelid
    union all select 'trigger', t.tgname from pg_trigger t join relation r on r.oid = t.tgrelid where not t.tgisinternal
    union all select 'function', p.proname from pg_proc p join ours on ours.oid = p.pronamespace
    union all select 'comment', d.description from pg_description d join relation r on r.oid = d.objoid
) as n (kind, name)
where case n.kind
    when 'comment' then n.name ~ %(comment)s
    when 'function' then n.name ~ %(words)s or n.name ~ ('^(' || %(functions)s || ')$')
    when 'type' then n.name ~ ('^(' || %(functions)s || ')$')
    when 'policy' then n.name ~ (%(words)s || '|_signed$')
    else n.name ~ %(words)s end
order by 1, 2"""


def old_names(connection: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """(kind, name) of each object of the project that has a name of version 0033, and of each comment that contains one."""
    comment = rf"\mctx\.|\mclaims_(gate|usher|recorder|sealer|as)\M|\m(app|auth)\.({FUNCTIONS})\M|\m({FUNCTIONS})\(\)"
    given = {"words": WORDS, "functions": FUNCTIONS, "comment": comment}
    return connection.execute(NAMES, given).fetchall()


CONTENTS = """
select format('%I.%I', n.nspname, c.relname), c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname in ('app', 'auth', 'ctx', 'context', 'procrastinate')"""


def contents(connection: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """Rows of every table as JSON, in order, by the new names of tables and columns; without NOT_COMPARED."""
    found = {}
    for name, table in connection.execute(CONTENTS).fetchall():
        rows = connection.execute(f"select to_jsonb(t) from {table} t").fetchall()
        left_out = NOT_COMPARED.get(name, set())
        renamed = [
            {COLUMNS.get(column, column): value for column, value in row.items() if column not in left_out}
            for (row,) in rows
        ]
        found[TABLES.get(name, name)] = sorted(json.dumps(row, sort_keys=True) for row in renamed)
    return found


def facts(connection: psycopg.Connection[Any]) -> set[str]:
    """Facts of the catalog (schema_admin.facts), but for two effects of a dump.

    It omits some parentheses of conditions. One of PostgreSQL 15 has no right to maintain, which came with 17.
    """
    rows = connection.execute("select schema_admin.facts()").fetchall()
    return {
        fact.replace(" maintain,", "").replace("(", "").replace(")", "")
        if fact.startswith(("constraint ", "grant on table "))
        else fact
        for (fact,) in rows
    }
