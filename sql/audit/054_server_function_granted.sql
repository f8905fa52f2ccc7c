-- Restricted functions of PostgreSQL read files, end connections or change the server. A grant to one of our roles gives them to injected
-- SQL.
-- Left out: pg_notify for roles that write jobs, because the queue's triggers call it; transaction-level advisory locks for roles whose
-- functions use them; set_config for logins that begin a context and roles whose functions set one; pg_current_xact_id_if_assigned for
-- sealing.
with concerned as (select * from schema_admin.concerned_roles()),
expected (function, role) as (
    values ('pg_notify', 'claims_owner'), ('pg_notify', 'claims_trigger_definer'), ('pg_notify', 'claims_worker')
        , ('pg_current_xact_id_if_assigned', 'claims_auth_definer')
    union all
    select 'set_config', role
    from unnest(array['claims_api', 'claims_worker', 'claims_operator', 'claims_owner', 'claims_auth_definer', 'claims_context_definer',
                      'claims_trigger_definer']) as role
    union all
    select function, role
    from unnest(array['pg_advisory_xact_lock', 'pg_try_advisory_xact_lock']) as function,
         unnest(array['claims_auth_definer', 'claims_owner', 'claims_trigger_definer']) as role
)
select '054 server function granted' as check, f.object, format('is granted to %I', c.rolname) as problem,
       format('revoke execute on function %s from %I', f.object, c.rolname) as remedy
from (
    select p.proname, format('pg_catalog.%I(%s)', p.proname, pg_get_function_identity_arguments(p.oid)) as object, g.grantee, g.is_grantable
    from pg_proc p cross join lateral aclexplode(p.proacl) g
    where p.pronamespace = 'pg_catalog'::regnamespace
) f
join concerned c on c.oid = f.grantee
where f.is_grantable or (f.proname, c.rolname) not in (select function, role from expected)
order by 2, 3;
