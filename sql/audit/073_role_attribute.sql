-- Attributes belong to a role itself, and no grant shows them. REPLICATION reads all changes without row-level security; CREATEDB may
-- copy a template database. A role that owns objects or that policies name must not log in. A login must not have the rights of a role
-- before it becomes the role. Check 070 reports logins that are superusers or have BYPASSRLS or CREATEROLE.
with ours as (select * from schema_admin.our_roles()),
concerned as (select * from schema_admin.concerned_roles()),
login (name) as (values ('claims_api'), ('claims_worker'), ('claims_auditor')),
found (object, problem, remedy) as (
    select r.rolname, 'has ' || upper(a.name), format('alter role %I no%s', r.rolname, a.name)
    from concerned r
    cross join lateral (values ('replication', r.rolreplication), ('createdb', r.rolcreatedb)) as a (name, has)
    where a.has and (not r.rolsuper or r.oid in (select oid from ours))
    union all
    select r.rolname, 'has ' || upper(a.name), format('alter role %I no%s', r.rolname, a.name)
    from ours r
    cross join lateral (values ('superuser', r.rolsuper), ('bypassrls', r.rolbypassrls), ('createrole', r.rolcreaterole)) as a (name, has)
    where a.has and r.rolname not in (select name from login)
    union all
    select r.rolname, 'may log in', format('alter role %I nologin', r.rolname)
    from ours r where r.rolcanlogin and r.rolname not in (select name from login)
    union all
    select r.rolname, 'has INHERIT, and the rights of each role that it is a member of', format('alter role %I noinherit', r.rolname)
    from ours r where r.rolinherit and r.rolname in (select name from login)
)
select '073 role attribute' as check, object::text, problem, remedy from found order by 2, 3;
