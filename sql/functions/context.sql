-- Entering a context: the one way to become somebody. Both functions run as claims_gate, who may read users and organizations
-- but, like everybody, only inside the tenant that is set: the tenant is set first, then the user must be found in it.

-- The caller's context for this transaction; returns the database role to become:
--   select set_config('role', ctx.enter(...), true)
-- Role, provider and patient are read here, so that a change holds from the next request on. The API must name a session that has
-- not ended; whoever else may enter (an operator who looks at the data as a user does) needs none.
create or replace function ctx.enter(
    p_organization_id uuid, p_user_id uuid, p_session_id uuid, p_request_id text, p_address text, p_source text,
    p_read_only boolean)
returns text
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    caller users;
begin
    perform set_config('app.organization_id', p_organization_id::text, true);
    select u.* into caller
    from users u join organizations o on o.organization_id = u.organization_id
    where u.user_id = p_user_id and u.active and o.suspended_at is null
      and (exists (select from auth.sessions s
                   where s.organization_id = p_organization_id and s.session_id = p_session_id and s.user_id = p_user_id
                     and s.ended_at is null)
           or p_session_id is null and session_user <> 'claims_api');
    if not found then
        raise exception using errcode = '28000', message = 'nobody to act as';
    end if;
    perform set_config('app.user_id', caller.user_id::text, true),
            set_config('app.session_id', coalesce(p_session_id::text, ''), true),
            set_config('app.role', caller.role, true),
            set_config('app.provider_id', coalesce(caller.provider_id::text, ''), true),
            set_config('app.patient_id', coalesce(caller.patient_id::text, ''), true),
            set_config('app.request_id', p_request_id, true),
            set_config('app.address', p_address, true),
            set_config('app.source', p_source, true);
    if p_read_only then
        perform set_config('transaction_read_only', 'on', true);
    end if;
    return case caller.role when 'claims_processor' then 'claims_processor' else 'claims_' || caller.role end;
end
$$;

-- The context of a job: inside the tenant of an event that stands there, as claims_system.
create or replace function ctx.enter_job(p_organization_id uuid, p_event_id uuid) returns text
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
begin
    perform set_config('app.organization_id', p_organization_id::text, true);
    if not exists (select from patient_status_events where event_id = p_event_id) then
        raise exception using errcode = '28000', message = 'no such event';
    end if;
    perform set_config('app.user_id', '', true),
            set_config('app.session_id', '', true),
            set_config('app.role', 'system', true),
            set_config('app.provider_id', '', true),
            set_config('app.patient_id', '', true),
            set_config('app.request_id', p_event_id::text, true),
            set_config('app.address', '', true),
            set_config('app.source', 'job', true);
    return 'claims_system';
end
$$;

alter function ctx.enter owner to claims_gate;
alter function ctx.enter_job owner to claims_gate;
revoke execute on function ctx.enter, ctx.enter_job from public;
grant execute on function ctx.enter to claims_api;
grant execute on function ctx.enter_job to claims_worker;
