-- A right of PUBLIC on a table, view or sequence belongs to every present and future login of the server.
select '062 granted to public' as check,
       format('%I.%I', n.nspname, c.relname) as object,
       format('PUBLIC may %s', string_agg(distinct g.privilege_type, ', ')) as problem,
       format('revoke all on %s%I.%I from public', case c.relkind when 'S' then 'sequence ' else '' end, n.nspname, c.relname) as remedy
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
cross join lateral (
    select grantee, privilege_type from aclexplode(c.relacl)
    union all
    select e.grantee, e.privilege_type
    from pg_attribute a cross join lateral aclexplode(a.attacl) e
    where a.attrelid = c.oid) g
where n.nspname in ('app', 'auth', 'context', 'schema_admin', 'procrastinate') and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
  and g.grantee = 0
group by n.nspname, c.relname, c.relkind
order by 2;
