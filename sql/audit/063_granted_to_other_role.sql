-- A grant in our schemas to a role that is not one of ours gives another login access that policies and other checks do not cover.
-- Left out: superusers, who need no grant; the role that makes backups (BYPASSRLS), which reads everything anyway.
with ours as (select * from schema_admin.our_roles()),
granted (kind, object, grantee, privilege) as (
    select 'schema', quote_ident(n.nspname), g.grantee, g.privilege_type
    from pg_namespace n cross join lateral aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) g
    where n.nspname in ('app', 'auth', 'context', 'schema_admin', 'procrastinate')
    union all
    select case c.relkind when 'S' then 'sequence' else 'table' end, format('%I.%I', n.nspname, c.relname), g.grantee, g.privilege_type
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    cross join lateral (
        select grantee, privilege_type
        from aclexplode(coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's'::"char" else 'r' end, c.relowner)))
        union
        select e.grantee, e.privilege_type from pg_attribute a cross join lateral aclexplode(a.attacl) e where a.attrelid = c.oid) g
    where n.nspname in ('app', 'auth', 'context', 'schema_admin', 'procrastinate') and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    union all
    select 'function', format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), g.grantee, g.privilege_type
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
    where n.nspname in ('app', 'auth', 'context', 'schema_admin', 'procrastinate')
)
select '063 granted to other role' as check, g.object,
       format('%I, none of our roles, may %s', r.rolname, lower(string_agg(distinct g.privilege, ', '))) as problem,
       format('revoke all on %s %s from %I', g.kind, g.object, r.rolname) as remedy
from granted g join pg_roles r on r.oid = g.grantee
where not r.rolsuper and not r.rolbypassrls and r.oid not in (select oid from ours)
group by g.kind, g.object, r.rolname
order by 2, 3;
