-- Rejects every command that changes the schema, unless the login may become claims_owner. PostgreSQL lets any role remove its own grants:
-- `drop owned by claims_api` removes the API's grants, and `drop owned by claims_processor` the policies that name only that role.
-- Only an event trigger can reject that. It fires for DDL, GRANT, REVOKE and DROP OWNED, never for a query, and not for shared objects
-- (ALTER ROLE, ALTER DATABASE). Its function belongs to the administrator, because it also runs in the administrator's sessions.
create or replace function schema_admin.refuse_ddl() returns event_trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if not pg_has_role(session_user, 'claims_owner', 'member') then  -- superusers are members of every role
        raise exception using errcode = '42501', message = format('permission denied: %s is for administrators', tg_tag);
    end if;
end
$$;
revoke execute on function schema_admin.refuse_ddl from public;

do $$
begin
    if not exists (select from pg_event_trigger where evtname = 'claims_refuse_ddl') then
        create event trigger claims_refuse_ddl on ddl_command_start execute function schema_admin.refuse_ddl();
    end if;
    alter event trigger claims_refuse_ddl enable always;
end
$$;
