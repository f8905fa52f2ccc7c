-- The counters behind rate limits and the login throttle, shared by every API process. The API signs each call (p_proof): SQL injected
-- into a request can neither spend another user's tries nor give its own ones back.

-- A subject as the counters keep it. Lowered as credentials are, here and not in Python: two spellings of one email are one subject in
-- every locale.
create or replace function auth.window_of(p_subject text) returns bytea
language sql immutable
return sha256(convert_to(lower(p_subject), 'UTF8'));

-- When a window began, as the API is told it.
create or replace function auth.began(p_started_at timestamptz) returns bigint
language sql immutable
return (extract(epoch from p_started_at) * 1000000)::bigint;

-- Takes up to p_want of what is left of p_limit for the subject in its window of p_seconds, which begins with its first call.
-- granted: how many were given; remaining: what the window has left; reset_after: seconds until it begins anew; began: when it did, in
-- microseconds since 1970.
create or replace function auth.take(
    p_subject text, p_want integer, p_limit integer, p_seconds integer, p_proof text,
    out granted integer, out remaining integer, out reset_after double precision, out began bigint)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform ctx.verify_call(p_proof, 'take', p_subject, p_want::text, p_limit::text, p_seconds::text);
    insert into auth.windows as w (subject, started_at, used, granted)
    values (auth.window_of(p_subject), clock_timestamp(), least(p_want, p_limit), least(p_want, p_limit))
    on conflict (subject) do update set
        (started_at, used, granted) = (
            select case when ended then excluded.started_at else w.started_at end,
                   case when ended then excluded.used else least(w.used + p_want, p_limit) end,
                   case when ended then excluded.granted else greatest(least(p_want, p_limit - w.used), 0) end
            from (select w.started_at <= excluded.started_at - make_interval(secs => p_seconds)) as window_ (ended))
    returning w.granted, p_limit - w.used, extract(epoch from w.started_at + make_interval(secs => p_seconds) - clock_timestamp()),
        auth.began(w.started_at)
    into granted, remaining, reset_after, began;
end
$$;

-- A right password gives back the try it took, to the account and to the address, each in the window that it was taken of. It clears none of
-- the wrong ones: a user who registers an organization under another person's email knows a right password for that email.
create or replace function auth.forgive(
    p_account text, p_address text, p_account_began bigint, p_address_began bigint, p_proof text)
returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
begin
    perform ctx.verify_call(p_proof, 'forgive', p_account, p_address, p_account_began::text, p_address_began::text);
    -- The address first, as auth.take is called: in the other order the two could wait for each other.
    update auth.windows set used = greatest(used - 1, 0)
    where subject = auth.window_of(p_address) and auth.began(started_at) = p_address_began;
    update auth.windows set used = greatest(used - 1, 0)
    where subject = auth.window_of(p_account) and auth.began(started_at) = p_account_began;
end
$$;

-- For an operator (make unlock): the account's tries are given back, and the trail of each of its organizations says so. Raises where the
-- email has no membership.
create or replace function auth.unlock(p_email text) returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' set app.organization_id = '' as $$
declare
    freed auth.credentials;
begin
    for freed in select c.* from auth.credentials c where c.email = lower(p_email) loop
        perform ctx.assume(freed.organization_id, p_role => session_user::text);
        perform record_act('execute', 'users', u.user_id, null, 'unlocked') from users u where u.email = freed.email;
    end loop;
    if not found then
        raise exception 'no user has that email';
    end if;
    delete from auth.windows w where w.subject = auth.window_of('login as:' || p_email);
end
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
alter function auth.unlock owner to claims_gate;
alter function auth.sweep_windows owner to claims_gate;
alter function auth.window_of owner to claims_gate;
alter function auth.began owner to claims_gate;
grant execute on function auth.take, auth.forgive to claims_api;
