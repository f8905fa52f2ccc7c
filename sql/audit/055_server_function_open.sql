-- By default PostgreSQL lets every login end connections of its own role, read prepared statements, send notifications, store large
-- objects, write to the WAL, hold locks beyond a transaction, watch other sessions, read counters that include rows of all organizations,
-- change settings while a statement runs, and run PL/pgSQL of its own. No request needs this, so sql/deploy/roles.sql revokes it from
-- PUBLIC. Neither PUBLIC nor a role that requests run as may have it, directly or by membership.
-- Left out: set_config for claims_api, which begins a context with it.
with outsiders as (
    select oid, rolname from pg_roles
    where rolname in ('claims_api', 'claims_admin', 'claims_processor', 'claims_provider', 'claims_patient')
),
closed as (
    select 'function' as kind, format('pg_catalog.%I(%s)', p.proname, pg_get_function_identity_arguments(p.oid)) as object,
           'execute' as privilege, coalesce(p.proacl, acldefault('f', p.proowner)) as entries
    from pg_proc p
    where p.pronamespace = 'pg_catalog'::regnamespace
      and (p.proname in ('pg_prepared_statement', 'pg_terminate_backend', 'pg_cancel_backend', 'pg_notify', 'pg_logical_emit_message',
                         'loread', 'lowrite', 'pg_lock_status', 'set_config', 'pg_stat_force_next_flush', 'currtid2', 'pg_blocking_pids',
                         'pg_isolation_test_session_is_blocked', 'pg_safe_snapshot_blocking_pids')
           or p.proname ~ '^(lo_|pg_stat_get_|(txid|pg)_current_(xact_id_)?if_assigned$|pg_(try_)?advisory_(xact_)?lock(_shared)?$)')
    union all
    select 'language', 'plpgsql', 'usage', coalesce(l.lanacl, acldefault('l', l.lanowner))
    from pg_language l where l.lanname = 'plpgsql'
)
select '055 server function open' as check, object,
       format('%s may %s it', who, case kind when 'language' then 'use' else 'execute' end) as problem,
       format('revoke %s on %s %s from %s', privilege, kind, object,
              case who when 'PUBLIC' then 'public' else quote_ident(who) end) as remedy
from closed
cross join lateral (
    select distinct coalesce(o.rolname, 'PUBLIC') from aclexplode(entries) g left join outsiders o on g.grantee <> 0
    where g.grantee = 0 or pg_has_role(o.oid, g.grantee, 'member')
) as h (who)
where not (object ~ '^pg_catalog.set_config\(' and who = 'claims_api')
order by 2, 3;
