-- A grant on a parameter lets a role change a setting of superusers: session_replication_role disables triggers,
-- session_preload_libraries loads code, ALTER SYSTEM affects the whole server. Our roles, their members and PUBLIC need none.
with concerned as (select * from schema_admin.concerned_roles())
select '065 parameter granted' as check, p.parname as object,
       format('%s may %s it', coalesce(c.rolname, 'PUBLIC'),
              lower(string_agg(g.privilege_type, ' and ' order by g.privilege_type desc))) as problem,
       format('revoke all on parameter %s from %s', p.parname, coalesce(quote_ident(c.rolname), 'public')) as remedy
from pg_parameter_acl p cross join lateral aclexplode(p.paracl) g left join concerned c on c.oid = g.grantee
where g.grantee = 0 or c.oid is not null
group by p.parname, c.rolname
order by 2, 3;
