-- A materialized view contains copies of rows and can't have policies: a role that may select reads the rows of all organizations.
select '081 materialized view granted' as check,
       format('%I.%I', n.nspname, c.relname) as object,
       format('%s may %s', case g.grantee when 0 then 'PUBLIC' else g.grantee::regrole::text end,
              string_agg(distinct g.privilege_type, ', ')) as problem,
       format('revoke all on %I.%I from %s', n.nspname, c.relname,
              case g.grantee when 0 then 'public' else g.grantee::regrole::text end) as remedy
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
cross join lateral (
    select grantee, privilege_type from aclexplode(c.relacl)
    union all
    select e.grantee, e.privilege_type
    from pg_attribute a cross join lateral aclexplode(a.attacl) e
    where a.attrelid = c.oid) g
where n.nspname in ('app', 'auth', 'context', 'schema_admin', 'procrastinate') and c.relkind = 'm' and g.grantee <> c.relowner
group by n.nspname, c.relname, g.grantee
order by 2, 3;
