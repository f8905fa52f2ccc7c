-- A SECURITY DEFINER function outside our schemas gives the rights of its owner to each role that may execute it. Checks 050 to 052
-- (search_path, owner, PUBLIC) do not cover it.
-- Left out: functions that initdb created (oid below 16384), and functions of an extension in a schema that none of our roles may use.
with ours as (select * from schema_admin.our_roles()),
concerned as (select * from schema_admin.concerned_roles())
select '053 definer elsewhere' as check, f.object,
       format('%s may execute it as %s', string_agg(coalesce(c.rolname, 'PUBLIC'), ', ' order by c.rolname), f.owner) as problem,
       format('revoke execute on function %s from %s', f.object,
              string_agg(coalesce(quote_ident(c.rolname), 'public'), ', ' order by c.rolname)) as remedy
from (
    select format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as object, p.proowner::regrole as owner,
           g.grantee
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
    where p.prosecdef and p.oid >= 16384 and n.nspname not in ('app', 'auth', 'context', 'schema_admin', 'procrastinate')
      and g.grantee <> p.proowner
      and (exists (select from ours where has_schema_privilege(ours.oid, n.oid, 'usage'))
           or not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'))
) f
left join concerned c on c.oid = f.grantee
where f.grantee = 0 or c.oid is not null
group by f.object, f.owner
order by 2;
