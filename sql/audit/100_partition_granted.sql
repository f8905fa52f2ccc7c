-- A query on a partition itself uses the partition's policies, not those of its parent. No role needs a grant on a partition: rights and
-- policies of the parent suffice.
select '100 partition granted' as check,
       format('%I.%I', n.nspname, c.relname) as object,
       format('%s may %s the partition itself', case g.grantee when 0 then 'PUBLIC' else g.grantee::regrole::text end,
              lower(string_agg(distinct g.privilege_type, ', '))) as problem,
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
where c.relispartition and c.relkind in ('r', 'p', 'f') and g.grantee <> c.relowner
group by n.nspname, c.relname, g.grantee
order by 2, 3;
