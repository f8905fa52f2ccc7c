-- The queue has no row-level security and its rows hold ids of all organizations. The worker runs it and a trigger adds jobs. Neither the
-- API nor a product role may read or write it, directly, by PUBLIC or by membership.
with outsiders as (
    select oid, rolname from pg_roles
    where rolname in ('claims_api', 'claims_admin', 'claims_processor', 'claims_provider', 'claims_patient', 'claims_system')
)
select '110 queue open' as check, q.object, format('%I may %s it', r.rolname, q.can) as problem,
       format('revoke all on %s %s from %I, public', q.kind, q.object, r.rolname) as remedy
from outsiders r
cross join lateral (
    select 'table' as kind, format('%I.%I', n.nspname, c.relname) as object, 'read or write' as can
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'procrastinate' and c.relkind in ('r', 'p', 'v', 'm', 'f')
      and (has_table_privilege(r.oid, c.oid, 'select, insert, update, delete, truncate')
           or has_any_column_privilege(r.oid, c.oid, 'select, insert, update'))
    union all
    select 'sequence', format('%I.%I', n.nspname, c.relname), 'use'
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'procrastinate'  -- has_sequence_privilege raises for anything but a sequence
      and case when c.relkind = 'S' then has_sequence_privilege(r.oid, c.oid, 'usage, select, update') end
    union all
    select 'function', format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), 'execute'
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'procrastinate' and has_function_privilege(r.oid, p.oid, 'execute')
) q
order by 2, 3;
