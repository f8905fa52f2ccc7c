-- The counters behind rate limits and the login throttle, shared by every API process. The API signs each call (p_proof): SQL injected
-- into a request can neither spend another user's tries nor give its own ones back.

-- A subject as the counters keep it. Lowered as credentials are, here and not in Python: two spellings of one email are one subject in
-- every locale.
create or replace function auth.rate_limit_key(p_subject text) returns bytea
language sql immutable
return sha256(convert_to(lower(p_subject), 'UTF8'));

-- The start of a window, as the API is told it.
create or replace function auth.window_start(p_started_at timestamptz) returns bigint
language sql immutable
return (extract(epoch from p_started_at) * 1000000)::bigint;

-- Takes up to p_want of what is left of p_limit for the subject in its window of p_seconds, which begins with its first call.
-- granted: how many were given; remaining: what the window has left; reset_after: seconds until it begins anew; window_start: its start, in
-- microseconds since 1970.
create or replace function auth.consume_rate_limit(
    p_subject text, p_want integer, p_limit integer, p_seconds integer, p_proof text,
    out granted integer, out remaining integer, out reset_after double precision, out window_start bigint)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform context.verify_call(p_proof, 'consume_rate_limit', p_subject, p_want::text, p_limit::text, p_seconds::text);
    insert into auth.rate_limits as w (subject, started_at, used, granted)
    values (auth.rate_limit_key(p_subject), clock_timestamp(), least(p_want, p_limit), least(p_want, p_limit))
    on conflict (subject) do update set
        (started_at, used, granted) = (
            select case when ended then excluded.started_at else w.started_at end,
                   case when ended then excluded.used else least(w.used + p_want, p_limit) end,
                   case when ended then excluded.granted else greatest(least(p_want, p_limit - w.used), 0) end
            from (select w.started_at <= excluded.started_at - make_interval(secs => p_seconds)) as window_ (ended))
    returning w.granted, p_limit - w.used, extract(epoch from w.started_at + make_interval(secs => p_seconds) - clock_timestamp()),
        auth.window_start(w.started_at)
    into granted, remaining, reset_after, window_start;
end
$$;

-- A right password gives back the try it took, to the account and to the address, each in the window that it was taken of. It clears none of
-- the wrong ones: a user who registers an organization under another person's email knows a right password for that email.
create or replace function auth.refund_rate_limit(
    p_account text, p_address text, p_account_window bigint, p_address_window bigint, p_proof text)
returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
begin
    perform context.verify_call(p_proof, 'refund_rate_limit', p_account, p_address, p_account_window::text, p_address_window::text);
    -- The address first, as auth.consume_rate_limit is called: in the other order the two could wait for each other.
    update auth.rate_limits set used = greatest(used - 1, 0)
    where subject = auth.rate_limit_key(p_address) and auth.window_start(started_at) = p_address_window;
    update auth.rate_limits set used = greatest(used - 1, 0)
    where subject = auth.rate_limit_key(p_account) and auth.window_start(started_at) = p_account_window;
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
        perform context.establish(freed.organization_id, p_role => session_user::text);
        perform write_audit_entry('execute', 'users', u.user_id, null, 'unlocked') from users u where u.email = freed.email;
    end loop;
    if not found then
        raise exception 'no user has that email';
    end if;
    delete from auth.rate_limits w where w.subject = auth.rate_limit_key('login as:' || p_email);
end
$$;

-- Windows that ended long ago, some at a time; every login sweeps a little (auth.open_session).
create or replace function auth.delete_expired_rate_limits() returns void
language sql security definer set search_path = app, pg_catalog, pg_temp as $$
    with over as materialized (
        select subject from auth.rate_limits where started_at < now() - interval '1 day' limit 1000 for update skip locked)
    delete from auth.rate_limits w using over where w.subject = over.subject
$$;

alter function auth.consume_rate_limit owner to claims_auth_definer;
alter function auth.refund_rate_limit owner to claims_auth_definer;
alter function auth.unlock owner to claims_auth_definer;
alter function auth.delete_expired_rate_limits owner to claims_auth_definer;
alter function auth.rate_limit_key owner to claims_auth_definer;
alter function auth.window_start owner to claims_auth_definer;
grant execute on function auth.consume_rate_limit, auth.refund_rate_limit to claims_api;
