-- Roles and schemas. Idempotent; an administrator (superuser) runs it before the migrations. No role here is a superuser or has
-- BYPASSRLS, and no login owns a table. sql/README.md describes the roles.
do $$
declare
    name text;
begin
    foreach name in array array['claims_owner', 'claims_auth_definer', 'claims_context_definer', 'claims_trigger_definer',
                                'claims_audit_sealer', 'claims_admin', 'claims_processor', 'claims_provider', 'claims_patient',
                                'claims_system', 'claims_operator', 'claims_reporting', 'claims_reporting_personal']
    loop
        if not exists (select from pg_roles where rolname = name) then
            execute format('create role %I nologin', name);
        end if;
    end loop;
    -- Owners of the functions of who_can_see (sql/platform/who_can_see.sql). Each inherits the rights of a product role, but no login can
    -- become it. Product roles must not own functions: an owner may replace a function, and the API can become the product roles.
    foreach name in array array['admin', 'processor', 'provider', 'patient'] loop
        if not exists (select from pg_roles where rolname = 'claims_check_' || name) then
            execute format('create role %I nologin in role %I', 'claims_check_' || name, 'claims_' || name);
        end if;
    end loop;
    foreach name in array array['claims_api', 'claims_worker', 'claims_auditor'] loop
        if not exists (select from pg_roles where rolname = name) then
            execute format('create role %I login noinherit', name);
        end if;
    end loop;
    execute format('grant connect, create on database %I to claims_owner', current_database());
    execute format('revoke all on database %I from public', current_database());
    execute format('grant connect on database %I to claims_api, claims_worker, claims_auditor, claims_reporting', current_database());
end
$$;

grant claims_admin, claims_processor, claims_provider, claims_patient to claims_api;
grant claims_system to claims_worker;
-- Reporting logins are members of one of these (make grant-reporting): they act as themselves, with its rights.
grant claims_reporting to claims_reporting_personal;

-- Removes all other settings of the logins, because PostgreSQL lets a login change its own.
do $$
declare
    login text;
begin
    foreach login in array array['claims_api', 'claims_worker', 'claims_auditor'] loop
        execute format('alter role %I reset all', login);
        execute format('alter role %I in database %I reset all', login, current_database());
    end loop;
end
$$;
-- No request or job needs more time than these limits.
alter role claims_api set search_path = app;
alter role claims_api set statement_timeout = '5s';
alter role claims_api set lock_timeout = '2s';
alter role claims_api set idle_in_transaction_session_timeout = '10s';
alter role claims_api set jit = off;
alter role claims_worker set search_path = procrastinate, app;
alter role claims_worker set statement_timeout = '3s';
alter role claims_worker set lock_timeout = '2s';
alter role claims_worker set idle_in_transaction_session_timeout = '5s';
alter role claims_worker set jit = off;
alter role claims_auditor set search_path = app;

create schema if not exists schema_admin authorization claims_owner;
create schema if not exists app authorization claims_owner;
create schema if not exists context authorization claims_owner;
create schema if not exists auth authorization claims_owner;
create schema if not exists procrastinate authorization claims_owner;
revoke all on schema public from public;
alter default privileges for role claims_owner revoke execute on functions from public;

-- Our roles have the rights on schemas that follow, and no others.
do $$
declare
    granted record;
begin
    for granted in
        select distinct n.nspname, g.grantee::regrole as grantee
        from pg_namespace n cross join lateral aclexplode(n.nspacl) g
        where n.nspname in ('schema_admin', 'app', 'context', 'auth', 'procrastinate') and g.grantee <> n.nspowner
          and (g.grantee = 0 or g.grantee::regrole::text like 'claims\_%')
    loop
        execute format('revoke all on schema %I from %s', granted.nspname, coalesce(nullif(granted.grantee::text, '-'), 'public'));
    end loop;
end
$$;
grant usage on schema app to claims_api, claims_worker, claims_auditor, claims_auth_definer, claims_context_definer,
    claims_trigger_definer, claims_audit_sealer, claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
grant usage on schema context, schema_admin to claims_api, claims_worker, claims_auditor;
grant usage on schema app, context to claims_reporting;
grant usage on schema context to claims_auth_definer, claims_context_definer, claims_trigger_definer, claims_audit_sealer, claims_admin,
    claims_processor, claims_provider, claims_patient, claims_system;
grant usage on schema auth to claims_api, claims_auth_definer, claims_context_definer, claims_trigger_definer, claims_admin,
    claims_processor, claims_provider, claims_patient;
grant usage on schema procrastinate to claims_worker, claims_trigger_definer;

-- Revokes functions that PostgreSQL grants to PUBLIC and that injected SQL could misuse; needed_by lists the roles that keep them.
-- Functions are looked up by name, because their arguments differ between versions of PostgreSQL. pg_dump includes these revokes. Before
-- pg_upgrade from 16 or older to 17 or newer, grant execute on pg_logical_emit_message to public again: its arguments changed, and
-- pg_upgrade fails on the old ones.
do $$
declare
    closed record;
begin
    for closed in
        select p.oid::regprocedure as function, f.needed_by
        from (values
            -- Names of prepared statements: a caller who knows one can replace it, and the next request on the connection runs it.
            ('pg_prepared_statement', null),
            -- Terminating other sessions of the same login, or cancelling their statements.
            ('pg_(terminate|cancel)_backend', 'pg_signal_backend'),
            -- Statements, clients and locks of other sessions of the same login.
            ('pg_lock_status', 'pg_read_all_stats'),
            -- Notifying the worker. Procrastinate's triggers do it as the role that adds the job.
            ('pg_notify', 'claims_owner, claims_trigger_definer, claims_worker'),
            -- Changing a setting while a statement runs. pg_dump needs it.
            ('set_config', 'claims_api, claims_worker, claims_operator, claims_owner, claims_auth_definer, claims_context_definer, '
                           'claims_trigger_definer, pg_read_all_data'),
            -- Values that change while a statement runs, like those of set_config. The planner may keep an equality with such a value in
            -- place of a policy's.
            ('pg_current_xact_id_if_assigned', 'claims_auth_definer'),
            ('txid_current_if_assigned', null),
            -- Counters of tables, indexes and functions: they include rows of other organizations that a scan skipped.
            ('pg_stat_get_\w+|pg_stat_force_next_flush', 'pg_read_all_stats'),
            -- The newest version of a row, without policies; and sessions that wait for each other.
            ('currtid2', null),
            ('pg_blocking_pids|pg_isolation_test_session_is_blocked|pg_safe_snapshot_blocking_pids', 'pg_read_all_stats'),
            -- Large objects: they belong to no organization.
            ('lo_\w+|loread|lowrite', null),
            -- Writing to the WAL, even if the transaction is rolled back.
            ('pg_logical_emit_message', null),
            -- Locks that last longer than the transaction, and locks that other organizations or the worker wait for.
            ('pg_(try_)?advisory_lock(_shared)?|pg_(try_)?advisory_xact_lock_shared', null),
            ('pg_(try_)?advisory_xact_lock', 'claims_auth_definer, claims_owner, claims_trigger_definer')
        ) as f (name, needed_by)
        join pg_proc p on p.pronamespace = 'pg_catalog'::regnamespace and p.proname ~ format('^(%s)$', f.name)
    loop
        execute format('revoke execute on function %s from public', closed.function);
        if closed.needed_by is not null then
            execute format('grant execute on function %s to %s', closed.function, closed.needed_by);
        end if;
    end loop;
end
$$;
-- Anonymous blocks (`do`). Creating a function needs a right to its language; calling one does not.
revoke usage on language plpgsql from public;
grant usage on language plpgsql to claims_owner;
