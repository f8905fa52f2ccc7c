-- Roles and schemas: idempotent, run by an administrator (superuser) before the migrations. No role here is a superuser,
-- bypasses row-level security or owns a table it may log in with. sql/README.md says what each one is for.
do $$
declare
    name text;
begin
    foreach name in array array['claims_owner', 'claims_gate', 'claims_usher', 'claims_recorder', 'claims_sealer', 'claims_admin', 'claims_processor',
                                'claims_provider', 'claims_patient', 'claims_system']
    loop
        if not exists (select from pg_roles where rolname = name) then
            execute format('create role %I nologin', name);
        end if;
    end loop;
    -- What a product role has, under a name that nobody can become: who owns a function may change it, and the API becomes
    -- product roles (sql/functions/who_can_see.sql).
    foreach name in array array['admin', 'processor', 'provider', 'patient'] loop
        if not exists (select from pg_roles where rolname = 'claims_as_' || name) then
            execute format('create role %I nologin in role %I', 'claims_as_' || name, 'claims_' || name);
        end if;
    end loop;
    foreach name in array array['claims_api', 'claims_worker', 'claims_auditor'] loop
        if not exists (select from pg_roles where rolname = name) then
            execute format('create role %I login noinherit', name);
        end if;
    end loop;
    execute format('grant connect, create on database %I to claims_owner', current_database());
    execute format('revoke all on database %I from public', current_database());
    execute format('grant connect on database %I to claims_api, claims_worker, claims_auditor', current_database());
end
$$;

grant claims_admin, claims_processor, claims_provider, claims_patient to claims_api;
grant claims_system to claims_worker;

-- A request or a job that runs longer than this is a fault, not work.
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
create schema if not exists ctx authorization claims_owner;
create schema if not exists auth authorization claims_owner;
create schema if not exists procrastinate authorization claims_owner;
revoke all on schema public from public;
alter default privileges for role claims_owner revoke execute on functions from public;

grant usage on schema app to claims_api, claims_worker, claims_auditor, claims_gate, claims_usher, claims_recorder, claims_sealer, claims_admin,
    claims_processor, claims_provider, claims_patient, claims_system;
grant usage on schema ctx, schema_admin to claims_api, claims_worker, claims_auditor;
grant usage on schema ctx to claims_gate, claims_usher, claims_recorder, claims_sealer, claims_admin, claims_processor, claims_provider, claims_patient,
    claims_system;
grant usage on schema auth to claims_api, claims_gate, claims_usher, claims_recorder, claims_admin, claims_processor, claims_provider, claims_patient;
grant usage on schema procrastinate to claims_worker, claims_recorder;
