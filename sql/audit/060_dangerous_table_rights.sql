-- Row-level security does not apply to TRUNCATE. REFERENCES tests whether a row exists, without policies. TRIGGER runs own code on other
-- roles' rows. Only the owner may have these rights.
select '060 dangerous table rights' as check,
       format('%I.%I', n.nspname, c.relname) as object,
       format('%s may %s', case g.grantee when 0 then 'PUBLIC' else g.grantee::regrole::text end, g.privilege_type) as problem,
       format('revoke %s on %I.%I from %s', lower(g.privilege_type), n.nspname, c.relname,
              case g.grantee when 0 then 'public' else g.grantee::regrole::text end) as remedy
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
cross join lateral (
    select grantee, privilege_type from aclexplode(c.relacl)
    union
    select e.grantee, e.privilege_type
    from pg_attribute a cross join lateral aclexplode(a.attacl) e
    where a.attrelid = c.oid) g
where n.nspname in ('app', 'auth', 'context', 'schema_admin', 'procrastinate') and c.relkind in ('r', 'p', 'v', 'm', 'f')
  and g.privilege_type in ('TRUNCATE', 'REFERENCES', 'TRIGGER') and g.grantee <> c.relowner
order by 2, 3;
