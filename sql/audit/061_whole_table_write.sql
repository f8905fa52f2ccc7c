-- Product roles may write named columns only. A grant on the whole table includes organization_id, keys and columns that are added later.
-- Left out: the definer roles, which write whole rows by their functions only.
select '061 whole table write' as check,
       format('%I.%I', n.nspname, c.relname) as object,
       format('%s may %s every column', g.grantee::regrole, lower(g.privilege_type)) as problem,
       format('revoke %1$s on %2$I.%3$I from %4$s; grant %1$s (<the columns>) on %2$I.%3$I to %4$s',
              lower(g.privilege_type), n.nspname, c.relname, g.grantee::regrole) as remedy
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
cross join lateral aclexplode(c.relacl) g
join pg_roles r on r.oid = g.grantee
where n.nspname in ('app', 'auth', 'context', 'schema_admin', 'procrastinate') and c.relkind in ('r', 'p', 'v', 'm', 'f')
  and g.privilege_type in ('INSERT', 'UPDATE')
  and r.rolname in ('claims_admin', 'claims_processor', 'claims_provider', 'claims_patient', 'claims_system')
order by 2, 3;
