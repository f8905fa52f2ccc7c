-- Counters of the rate limits and the login throttle, shared by all API processes. The API signs each call (p_proof), so SQL injected
-- into a request can neither use up another user's attempts nor refund its own.

-- The key of a subject, e.g. an email or an address, in auth.rate_limits. Lower case is made here and not in Python, in the same way as for
-- credentials, so that two spellings of one email have one counter in every locale.
create or replace function auth.rate_limit_key(p_subject text) returns bytea
language sql immutable
return sha256(convert_to(lower(p_subject), 'UTF8'));

-- The start of a window as the API gets it: microseconds since 1970.
create or replace function auth.window_start(p_started_at timestamptz) returns bigint
language sql immutable
return (extract(epoch from p_started_at) * 1000000)::bigint;

-- Consumes up to p_want of the subject's remaining attempts: p_limit in a window of p_seconds, which begins with the first call.
-- granted: how many were consumed; remaining: how many the window has left; reset_after: seconds until the window ends;
-- window_start: microseconds since 1970.
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

-- Refunds the attempt of a login with the correct password, to the account and to the address, each in the window that it was consumed
-- from. It refunds no failed attempt: a user who registers an organization under another person's email has a correct password for that
-- email.
create or replace function auth.refund_rate_limit(
    p_account text, p_address text, p_account_window bigint, p_address_window bigint, p_proof text)
returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
begin
    perform context.verify_call(p_proof, 'refund_rate_limit', p_account, p_address, p_account_window::text, p_address_window::text);
    -- The address first, in the order in which the API calls auth.consume_rate_limit. The other order could deadlock.
    update auth.rate_limits set used = greatest(used - 1, 0)
    where subject = auth.rate_limit_key(p_address) and auth.window_start(started_at) = p_address_window;
    update auth.rate_limits set used = greatest(used - 1, 0)
    where subject = auth.rate_limit_key(p_account) and auth.window_start(started_at) = p_account_window;
end
$$;

-- Resets the login throttle of an account, for an operator (make unlock). The audit log of each of its organizations gets an entry.
-- Raises if no user has the email.
create or replace function auth.unlock(p_email text) returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' set app.organization_id = '' as $$
declare
    membership auth.credentials;
begin
    for membership in select c.* from auth.credentials c where c.email = lower(p_email) loop
        perform context.establish(membership.organization_id, p_role => session_user::text);
        perform write_audit_entry('execute', 'users', u.user_id, null, 'unlocked') from users u where u.email = membership.email;
    end loop;
    if not found then
        raise exception 'no user has that email';
    end if;
    delete from auth.rate_limits w where w.subject = auth.rate_limit_key('login as:' || p_email);
end
$$;

-- Deletes up to 1,000 counters that are older than a day. Each login calls it (auth.open_session).
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
