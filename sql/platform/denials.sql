-- Requests that were denied, in the trail of their organization. Of each user the first 60 of a minute have an entry each,
-- the others one together when the minute has ended: a client that asks in vain all day adds to a counter.

-- One denial; nothing where the organization has no such user. The transaction that refused it is gone, and a caller that may not come in
-- any more has no context of its own. No caller waits for the disk for one that is only counted: a crash may lose the last second's.
create or replace function auth.record_denial(
    p_organization_id uuid, p_user_id uuid, p_request_id text, p_address text, p_entity text, p_entity_id uuid, p_outcome text,
    p_asked text, p_proof text)
returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
declare
    each constant integer := 60;
    time timestamptz := clock_timestamp();
    caller users;
    ended auth.denial_counters;
    is_one_more boolean;
    done text;
begin
    perform context.verify_call(
        p_proof, 'record_denial', p_organization_id::text, p_user_id::text, p_request_id, p_address, p_entity, p_entity_id::text,
        p_outcome, p_asked);
    update auth.denial_counters d set more = d.more + 1, more_from = coalesce(d.more_from, time), more_to = time
    where d.organization_id = p_organization_id and d.user_id = p_user_id
      and d.recorded >= each and d.started_at > time - interval '1 minute';
    if found then
        done := set_config('synchronous_commit', 'off', true);
        return;
    end if;
    perform context.establish(p_organization_id);
    select u.* into caller from users u where u.user_id = p_user_id;
    if not found then
        return;
    end if;
    delete from auth.denial_counters d
    where d.organization_id = p_organization_id and d.user_id = p_user_id and d.started_at <= time - interval '1 minute'
    returning d.* into ended;
    perform auth.record_more_denials(ended);
    -- Once more which one it is: another denial of the same user may have come in between.
    insert into auth.denial_counters as d (organization_id, user_id, started_at, recorded) values (p_organization_id, p_user_id, time, 1)
    on conflict (organization_id, user_id) do update set
        recorded = least(d.recorded + 1, each), more = d.more + (d.recorded >= each)::integer,
        more_from = case when d.recorded >= each then coalesce(d.more_from, time) end, more_to = case when d.recorded >= each then time end
    returning d.more > 0 into is_one_more;
    if not is_one_more then
        perform context.establish(p_organization_id, p_user_id, p_role => caller.role, p_request_id => p_request_id, p_address => p_address);
        perform write_audit_entry('denied', p_entity, p_entity_id, null, p_outcome, p_asked::jsonb);
    end if;
end
$$;

-- The entry for those of a minute that had none of their own.
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

-- The same for up to p_at_most minutes that have ended, of whichever user; how many. A worker calls it every few seconds, for users
-- that are denied nothing any more. It waits for no other: a denial that is under way, or another worker, does it by itself.
create or replace function app.flush_denials(p_at_most integer) returns integer
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
declare
    ended auth.denial_counters;
    closed integer := 0;
begin
    for ended in
        delete from auth.denial_counters d where d.ctid = any (array(
            select o.ctid from auth.denial_counters o where o.started_at <= clock_timestamp() - interval '1 minute'
            limit p_at_most for update skip locked))
        returning d.*
    loop
        perform auth.record_more_denials(ended);
        closed := closed + 1;
    end loop;
    return closed;
end
$$;

alter function auth.record_denial owner to claims_auth_definer;
alter function auth.record_more_denials owner to claims_auth_definer;
alter function app.flush_denials owner to claims_auth_definer;
grant execute on function auth.record_denial to claims_api;
grant execute on function app.flush_denials to claims_worker;
