-- Audit entries for denied requests (401, 403, 404 of a known user). The first 60 denials of a user in a minute get an entry each. Later
-- ones only increment a counter and get one common entry (`more denials`) after the minute. So a client that is denied all day can't fill
-- the audit log.

-- Records one denial; does nothing if the organization has no such user. It needs a proof and no context, because the transaction of the
-- denied request was rolled back, and a deactivated user can't begin a context. A denial that is only counted is committed
-- asynchronously: a crash may lose those of the last second.
create or replace function auth.record_denial(
    p_organization_id uuid, p_user_id uuid, p_request_id text, p_address text, p_entity text, p_entity_id uuid, p_outcome text,
    p_asked text, p_proof text)
returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
declare
    max_entries constant integer := 60;
    denied_at timestamptz := clock_timestamp();
    caller users;
    ended auth.denial_counters;
    is_only_counted boolean;
    unused text;
begin
    perform context.verify_call(
        p_proof, 'record_denial', p_organization_id::text, p_user_id::text, p_request_id, p_address, p_entity, p_entity_id::text,
        p_outcome, p_asked);
    update auth.denial_counters d set more = d.more + 1, more_from = coalesce(d.more_from, denied_at), more_to = denied_at
    where d.organization_id = p_organization_id and d.user_id = p_user_id
      and d.recorded >= max_entries and d.started_at > denied_at - interval '1 minute';
    if found then
        unused := set_config('synchronous_commit', 'off', true);
        return;
    end if;
    perform context.establish(p_organization_id);
    select u.* into caller from users u where u.user_id = p_user_id;
    if not found then
        return;
    end if;
    delete from auth.denial_counters d
    where d.organization_id = p_organization_id and d.user_id = p_user_id and d.started_at <= denied_at - interval '1 minute'
    returning d.* into ended;
    perform auth.record_more_denials(ended);
    -- Checks the limit again, because another denial of the same user may have been recorded since the update above.
    insert into auth.denial_counters as d (organization_id, user_id, started_at, recorded)
    values (p_organization_id, p_user_id, denied_at, 1)
    on conflict (organization_id, user_id) do update set
        recorded = least(d.recorded + 1, max_entries), more = d.more + (d.recorded >= max_entries)::integer,
        more_from = case when d.recorded >= max_entries then coalesce(d.more_from, denied_at) end,
        more_to = case when d.recorded >= max_entries then denied_at end
    returning d.more > 0 into is_only_counted;
    if not is_only_counted then
        perform context.establish(
            p_organization_id, p_user_id, p_role => caller.role, p_request_id => p_request_id, p_address => p_address);
        perform write_audit_entry('denied', p_entity, p_entity_id, null, p_outcome, p_asked::jsonb);
    end if;
end
$$;

-- Writes the common entry for the denials of an ended minute that have no entry of their own; nothing if there are none.
create or replace function auth.record_more_denials(p_ended auth.denial_counters) returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
declare
    caller users;
begin
    if p_ended.more > 0 then
        perform context.establish(p_ended.organization_id);
        select u.* into caller from users u where u.user_id = p_ended.user_id;
        perform context.establish(p_ended.organization_id, p_ended.user_id, p_role => caller.role);
        perform write_audit_entry(
            'denied', 'users', p_ended.user_id, null, 'more denials',
            jsonb_build_object('count', p_ended.more, 'from', to_rfc3339(p_ended.more_from), 'to', to_rfc3339(p_ended.more_to)));
    end if;
end
$$;

-- Closes up to p_at_most ended minutes of any users: writes their common entries and removes their counters. Returns how many. A worker
-- calls it every few seconds, for users without further denials. It skips locked counters: the transaction that locks one, a new denial
-- or another worker, closes it.
create or replace function app.flush_denials(p_at_most integer) returns integer
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
declare
    ended auth.denial_counters;
    flushed integer := 0;
begin
    for ended in
        delete from auth.denial_counters d where d.ctid = any (array(
            select o.ctid from auth.denial_counters o where o.started_at <= clock_timestamp() - interval '1 minute'
            limit p_at_most for update skip locked))
        returning d.*
    loop
        perform auth.record_more_denials(ended);
        flushed := flushed + 1;
    end loop;
    return flushed;
end
$$;

alter function auth.record_denial owner to claims_auth_definer;
alter function auth.record_more_denials owner to claims_auth_definer;
alter function app.flush_denials owner to claims_auth_definer;
grant execute on function auth.record_denial to claims_api;
grant execute on function app.flush_denials to claims_worker;
