-- How often somebody may: the counters behind rate limits and the login throttle, shared by every API process.

-- Takes up to p_want of what is left of p_limit for the subject in its window of p_seconds, which begins with its first call.
-- granted: how many were given; remaining: what the window has left; reset_after: seconds until it begins anew.
create or replace function auth.take(
    p_subject text, p_want integer, p_limit integer, p_seconds integer,
    out granted integer, out remaining integer, out reset_after double precision)
language sql security definer set search_path = app, pg_catalog, pg_temp as $$
    insert into auth.windows as w (subject, started_at, used, granted)
    values (sha256(convert_to(p_subject, 'UTF8')), clock_timestamp(), least(p_want, p_limit), least(p_want, p_limit))
    on conflict (subject) do update set
        (started_at, used, granted) = (
            select case when ended then excluded.started_at else w.started_at end,
                   case when ended then excluded.used else least(w.used + p_want, p_limit) end,
                   case when ended then excluded.granted else greatest(least(p_want, p_limit - w.used), 0) end
            from (select w.started_at <= excluded.started_at - make_interval(secs => p_seconds)) as window_ (ended))
    returning w.granted, p_limit - w.used,
        extract(epoch from w.started_at + make_interval(secs => p_seconds) - clock_timestamp())
$$;

-- A right password gives back the try it took, to the account and to the address. It clears none of the wrong ones: whoever founds
-- an organization under somebody's email knows a right password for that email.
create or replace function auth.forgive(p_account text, p_address text) returns void
language sql security definer set search_path = app, pg_catalog, pg_temp as $$
    -- The address first, as whoever takes a try does: in the other order the two could wait for each other.
    update auth.windows set used = greatest(used - 1, 0) where subject = sha256(convert_to(p_address, 'UTF8'));
    update auth.windows set used = greatest(used - 1, 0) where subject = sha256(convert_to(p_account, 'UTF8'));
$$;

-- Windows that ended long ago, some at a time; every login sweeps a little (auth.open_session).
create or replace function auth.sweep_windows() returns void
language sql security definer set search_path = app, pg_catalog, pg_temp as $$
    with over as materialized (
        select subject from auth.windows where started_at < now() - interval '1 day' limit 1000 for update skip locked)
    delete from auth.windows w using over where w.subject = over.subject
$$;

alter function auth.take owner to claims_gate;
alter function auth.forgive owner to claims_gate;
alter function auth.sweep_windows owner to claims_gate;
grant execute on function auth.take, auth.forgive to claims_api;

select schema_admin.drop_policies('auth.windows');
revoke all on auth.windows from public;
grant select, insert, update, delete on auth.windows to claims_gate;
create policy windows_gate on auth.windows to claims_gate using (true) with check (true);
