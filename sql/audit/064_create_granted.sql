-- A role with CREATE can add tables, functions and operators to schemas in which other roles resolve names. With TEMP it can do so in
-- pg_temp, and store data between transactions. Only claims_owner may create schemas in the database and objects in our schemas.
with concerned as (select * from schema_admin.concerned_roles())
select '064 create granted' as check, format('%s %I', o.kind, o.name) as object,
       format('%s may %s', coalesce(c.rolname, 'PUBLIC'), lower(string_agg(g.privilege_type, ', ' order by g.privilege_type))) as problem,
       format('revoke %s on %s %I from %s', lower(string_agg(g.privilege_type, ', ' order by g.privilege_type)), o.kind, o.name,
              coalesce(quote_ident(c.rolname), 'public')) as remedy
from (
    select 'database' as kind, datname as name, datdba as owner, coalesce(datacl, acldefault('d', datdba)) as entries
    from pg_database where datname = current_database()
    union all
    select 'schema', nspname, nspowner, coalesce(nspacl, acldefault('n', nspowner))
    from pg_namespace where nspname in ('app', 'auth', 'context', 'schema_admin', 'procrastinate', 'public')
) o
cross join lateral aclexplode(o.entries) g
left join concerned c on c.oid = g.grantee
where (g.grantee = 0 or c.oid is not null) and g.privilege_type in ('CREATE', 'TEMPORARY')
  and not (c.rolname is not distinct from 'claims_owner' and o.name <> 'public' and (g.privilege_type = 'CREATE' or o.owner = g.grantee))
group by o.kind, o.name, c.rolname
order by 2, 3;
