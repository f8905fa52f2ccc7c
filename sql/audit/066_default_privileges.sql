-- Default privileges apply to objects that do not exist yet, so no file of policies/ or functions/ shows them. The schema step sets one:
-- functions of claims_owner are not for PUBLIC.
-- Left out: PostgreSQL's own defaults, and what a role grants to PUBLIC in other schemas.
with ours as (select * from schema_admin.our_roles()),
concerned as (select * from schema_admin.concerned_roles()),
kinds (letter, kind, acl) as (values
    ('r'::"char", 'tables', 'r'::"char"), ('S', 'sequences', 's'), ('f', 'functions', 'f'), ('T', 'types', 'T'), ('n', 'schemas', 'n'),
    ('L', 'large objects', 'L')),
granted as (
    select d.defaclrole as role, n.nspname as schema, d.defaclobjtype as letter, g.grantee, g.privilege_type
    from pg_default_acl d left join pg_namespace n on n.oid = d.defaclnamespace
    join kinds k on k.letter = d.defaclobjtype
    cross join lateral aclexplode(d.defaclacl) g
    where g.grantee <> d.defaclrole
      and (g.grantee = 0 and (n.nspname is null or n.nspname in ('app', 'auth', 'context', 'schema_admin', 'procrastinate', 'public'))
           or g.grantee in (select oid from concerned))
      and not (n.nspname is null and exists (
          select from aclexplode(acldefault(k.acl, d.defaclrole)) e where (e.grantee, e.privilege_type) = (g.grantee, g.privilege_type)))
    union all
    select o.oid, null, 'f', 0::oid, 'EXECUTE'  -- PostgreSQL's own default applies unless an entry removes it
    from ours o
    where o.rolname = 'claims_owner' and not exists (
        select from pg_default_acl d
        where d.defaclrole = o.oid and d.defaclnamespace = 0 and d.defaclobjtype = 'f'
          and not exists (select from aclexplode(d.defaclacl) e where e.grantee = 0))
)
select '066 default privileges' as check,
       concat_ws(' in ', format('%s of %s', k.kind, g.role::regrole), quote_ident(g.schema)) as object,
       format('%s may %s each new one', coalesce(c.rolname, 'PUBLIC'), lower(string_agg(g.privilege_type, ', '))) as problem,
       format('alter default privileges for role %s%s revoke all on %s from %s', g.role::regrole, ' in schema ' || quote_ident(g.schema),
              k.kind, coalesce(quote_ident(c.rolname), 'public')) as remedy
from granted g join kinds k on k.letter = g.letter left join concerned c on c.oid = g.grantee
group by k.kind, g.role, g.schema, c.rolname
order by 2, 3;
