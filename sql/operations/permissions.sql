-- Permissions in the live catalog. Run it as claims_auditor. `make permissions` generates sql/PERMISSIONS.md from these statements.
-- Rights that a role inherits are listed with the role that it inherits them from.

-- name: schemas
-- Roles with usage on each schema.
select n.nspname as schema, o.rolname as owner,
       array_agg(coalesce(r.rolname, 'PUBLIC') || case g.privilege_type when 'USAGE' then '' else ' (create)' end
                 order by r.rolname, g.privilege_type desc) as roles
from pg_namespace n
join pg_roles o on o.oid = n.nspowner
cross join lateral aclexplode(n.nspacl) g
left join pg_roles r on r.oid = g.grantee
where n.nspname in ('app', 'auth', 'context', 'procrastinate', 'schema_admin') and g.grantee <> n.nspowner
group by n.nspname, o.rolname
order by 1;

-- name: members
-- Memberships. `has`: the role has the other's rights; `may become`: only after `set role`.
select m.rolname as role, m.rolcanlogin as login,
       case when pg_has_role(m.oid, r.oid, 'usage') then 'has' else 'may become' end as how,
       array_agg(r.rolname order by r.rolname) as roles
from pg_auth_members x
join pg_roles m on m.oid = x.member
join pg_roles r on r.oid = x.roleid
where r.rolname like 'claims\_%' and not m.rolsuper
group by 1, 2, 3
order by 1, 3;

-- name: tables
-- Row-level security of each table, and the rights that its owner does not have.
select n.nspname as schema, c.relname as table, o.rolname as owner,
       case when not c.relrowsecurity then 'off' when not c.relforcerowsecurity then 'not for the owner' else 'forced' end as row_security,
       exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped) as by_tenant,
       array(select p from unnest(array['select', 'insert', 'update', 'delete']) as p where not has_table_privilege(o.oid, c.oid, p))
           as owner_may_not
from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_roles o on o.oid = c.relowner
where n.nspname in ('app', 'auth', 'context', 'procrastinate', 'schema_admin') and c.relkind in ('r', 'p', 'v', 'm', 'f')
order by n.nspname, c.relname;

-- name: rights
-- Grants on tables: `all` columns, or a list. Those of the owner are left out.
with granted as (
    select c.oid as relation, c.relowner, g.grantee, lower(g.privilege_type) as command, null::text as name, 0 as place
    from pg_class c cross join lateral aclexplode(c.relacl) g
    union all
    select c.oid, c.relowner, g.grantee, lower(g.privilege_type), a.attname, a.attnum
    from pg_class c join pg_attribute a on a.attrelid = c.oid cross join lateral aclexplode(a.attacl) g
),
by_command as (
    select relation, grantee, command,
           case when bool_or(name is null) then 'all' else string_agg(name, ', ' order by place) end as columns
    from granted where grantee <> relowner
    group by relation, grantee, command
)
select n.nspname as schema, c.relname as table, coalesce(r.rolname, 'PUBLIC') as role,
       max(b.columns) filter (where command = 'select') as select,
       max(b.columns) filter (where command = 'insert') as insert,
       max(b.columns) filter (where command = 'update') as update,
       max(b.columns) filter (where command = 'delete') as delete,
       string_agg(command, ', ' order by command) filter (where command not in ('select', 'insert', 'update', 'delete')) as more
from by_command b
join pg_class c on c.oid = b.relation
join pg_namespace n on n.oid = c.relnamespace
left join pg_roles r on r.oid = b.grantee
where n.nspname in ('app', 'auth', 'context', 'procrastinate', 'schema_admin') and c.relkind in ('r', 'p', 'v', 'm', 'f')
group by n.nspname, c.relname, r.rolname
order by n.nspname, c.relname, r.rolname;

-- name: policies
-- Policies. A row is visible if one permissive policy and all restrictive policies allow it.
select n.nspname as schema, c.relname as table, p.polname as policy,
       case when p.polpermissive then 'permissive' else 'restrictive' end as kind,
       case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end as command,
       array(select coalesce(r.rolname, 'PUBLIC') from unnest(p.polroles) as u (oid) left join pg_roles r on r.oid = u.oid
             order by r.rolname)
           as roles,
       pg_get_expr(p.polqual, p.polrelid, true) as using,
       pg_get_expr(p.polwithcheck, p.polrelid, true) as check
from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('app', 'auth', 'context', 'procrastinate', 'schema_admin')
order by n.nspname, c.relname, p.polpermissive, p.polname;

-- name: functions
-- Grants on functions, except those of the owner. `runs as`: the owner of a SECURITY DEFINER function. Trigger functions can't be called.
select n.nspname as schema, format('%s(%s)', p.proname, oidvectortypes(p.proargtypes)) as function,
       case when p.prosecdef then o.rolname end as "runs as",
       array_agg(coalesce(r.rolname, 'PUBLIC') order by r.rolname) as roles, obj_description(p.oid, 'pg_proc') as comment
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
join pg_roles o on o.oid = p.proowner
cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
left join pg_roles r on r.oid = g.grantee
where n.nspname in ('app', 'auth', 'context', 'procrastinate', 'schema_admin') and g.grantee <> p.proowner
  and p.prorettype <> 'trigger'::regtype
group by n.nspname, p.oid, p.prosecdef, o.rolname
order by n.nspname, p.proname, oidvectortypes(p.proargtypes) collate "C";
