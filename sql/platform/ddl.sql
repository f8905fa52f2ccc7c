-- Refuses every command that changes the schema to logins that may not become claims_owner. PostgreSQL lets any role give up what was
-- granted to it: `drop owned by claims_api` removes the API's grants, and by claims_processor the policies that name that role alone.
-- An event trigger is the only place to refuse that. It fires for DDL, GRANT, REVOKE and DROP OWNED, never for a query. It does not
-- fire for shared objects (ALTER ROLE, ALTER DATABASE). Its function belongs to the administrator, because it runs in every session
-- that changes the schema, the administrator's own included.
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
