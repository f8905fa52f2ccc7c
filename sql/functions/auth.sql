-- Authentication: login, registration, invitations, sessions and passwords. Most of it runs before the organization is known, as
-- claims_auth_definer. The API signs each call, the function's name with its arguments (p_proof). So SQL injected into a request can't
-- call a function that the request does not call, and can't call that one for another user.

-- The memberships whose passwords a login is compared with. Only active users of organizations that are not suspended count.
-- * With a slug: the membership in that organization.
-- * Without: the email's oldest membership, and those whose email was proven. Anyone may register an organization under another person's
--   email. If such a membership were compared as well, a login would reveal whether the person uses the same password.
-- Each membership is read inside its own organization, so no statement here sees users of two organizations. At most 20 are returned,
-- because each may cost one password hash.
create or replace function auth.memberships(p_email text, p_slug text)
returns table (organization_id uuid, user_id uuid, role text, password_hash text, changed_at timestamptz)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
declare
    candidate auth.credentials;
    added integer;
    total integer := 0;
begin
    for candidate in
        select c.* from auth.credentials c
        where c.email = lower(p_email)
          and (p_slug is null or c.organization_id = (select t.organization_id from auth.organization_lookup t where t.slug = p_slug))
        order by c.joined_at, c.organization_id
    loop
        continue when total > 0 and candidate.proven_at is null;
        perform context.establish(candidate.organization_id);
        return query
        select u.organization_id, u.user_id, u.role, candidate.password_hash, candidate.changed_at
        from users u join organizations o on o.organization_id = u.organization_id
        where u.email = candidate.email and u.active and o.suspended_at is null;
        get diagnostics added = row_count;
        total := total + added;
        exit when total = 20;
    end loop;
end
$$;

-- auth.memberships, for the API.
create or replace function auth.find_logins(p_email text, p_slug text, p_proof text)
returns table (organization_id uuid, user_id uuid, role text, password_hash text, changed_at timestamptz)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
begin
    perform context.verify_call(p_proof, 'find_logins', p_email, p_slug);
    return query select * from auth.memberships(p_email, p_slug);
end
$$;

-- A password hash of the email, null if it has none: all hashes of one email have the same salt, which the API reads from it.
create or replace function auth.find_password_hash(p_email text, p_proof text) returns text
language plpgsql stable security definer set search_path = app, pg_catalog, pg_temp as $$
begin
    perform context.verify_call(p_proof, 'find_password_hash', p_email);
    return (select c.password_hash from auth.credentials c where c.email = lower(p_email) order by c.organization_id limit 1);
end
$$;

-- Checks whether the API's signatures are accepted, at its start and for readiness. Returns
-- * ok;
-- * unknown: there is no key p_kid;
-- * another secret: the key p_kid has another secret;
-- * clock: only the time is rejected.
create or replace function auth.probe(p_kid text, p_proof text) returns text
language plpgsql stable security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    proof_message text := format('5:probe%s:%s', octet_length(p_kid), p_kid);  -- as context.verify_call would build it
    inner_pad bytea;
    outer_pad bytea;
begin
    select k.inner_pad, k.outer_pad into inner_pad, outer_pad from context.keys k where k.kid = p_kid and k.kid <> 'self';
    return case
        when inner_pad is null then 'unknown'
        when context.is_signed(p_proof, proof_message, inner_pad, outer_pad) is not true then 'another secret'
        when context.is_valid_proof(p_proof, proof_message, inner_pad, outer_pad) then 'ok'
        else 'clock' end;
end
$$;

-- Creates an organization and sets its context. Raises unique_violation if the slug is taken.
create or replace function auth.add_organization(p_slug text, p_name text) returns uuid
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    new_id uuid := uuid7();
begin
    perform context.establish(new_id);
    insert into organizations (organization_id, slug, name) values (new_id, p_slug, p_name);
    return new_id;
end
$$;

-- Creates a user with a password in the context's organization.
create or replace function auth.add_user(
    p_email text, p_name text, p_role text, p_provider_id uuid, p_patient_id uuid, p_password_hash text) returns uuid
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    new_id uuid := uuid7();
begin
    insert into users (user_id, email, name, role, provider_id, patient_id)
    values (new_id, lower(p_email), p_name, p_role, p_provider_id, p_patient_id);
    insert into auth.credentials (email, organization_id, password_hash)
    values (lower(p_email), organization_id(), p_password_hash);
    return new_id;
end
$$;

-- Creates an organization and its first admin. The slug is derived from the name; if it is taken, four random hexadecimal digits are added.
create or replace function auth.register(p_organization text, p_email text, p_name text, p_password_hash text, p_proof text)
returns table (organization_id uuid, user_id uuid, role text)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
declare
    base text := coalesce(nullif(trim(both '-' from left(regexp_replace(lower(p_organization), '[^a-z0-9]+', '-', 'g'), 58)), ''), 'org');
    slug text := case when length(base) < 2 then base || '-org' else base end;
begin
    perform context.verify_call(p_proof, 'register', p_organization, p_email, p_name, p_password_hash);
    loop
        begin
            organization_id := auth.add_organization(slug, p_organization);
            exit;
        exception when unique_violation then
            slug := base || '-' || left(replace(gen_random_uuid()::text, '-', ''), 4);
        end;
    end loop;
    user_id := auth.add_user(p_email, p_name, 'admin', null, null, p_password_hash);
    role := 'admin';
    return next;
end
$$;

-- The invitation of a token while it can be accepted. No row if it is unknown, accepted or expired or the organization is suspended:
-- callers can't tell which.
create or replace function auth.open_invitation(p_organization_id uuid, p_token_hash bytea) returns setof app.invitations
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
begin
    perform context.establish(p_organization_id);
    return query
    select i.* from invitations i join organizations o on o.organization_id = i.organization_id
    where i.token_hash = p_token_hash and i.accepted_at is null and i.expires_at > now() and o.suspended_at is null;
end
$$;

-- auth.open_invitation, for the API.
create or replace function auth.find_invitation(p_organization_id uuid, p_token_hash bytea, p_proof text) returns setof app.invitations
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
begin
    perform context.verify_call(p_proof, 'find_invitation', p_organization_id::text, encode(p_token_hash, 'hex'));
    return query select * from auth.open_invitation(p_organization_id, p_token_hash);
end
$$;

-- Accepts an invitation: creates the user with the invitation's email and role. No row if it can't be accepted (any more).
create or replace function auth.accept_invitation(
    p_organization_id uuid, p_token_hash bytea, p_name text, p_password_hash text, p_proof text)
returns table (organization_id uuid, user_id uuid, role text)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
declare
    invitation invitations;
begin
    perform context.verify_call(
        p_proof, 'accept_invitation', p_organization_id::text, encode(p_token_hash, 'hex'), p_name, p_password_hash);
    select * into invitation from auth.open_invitation(p_organization_id, p_token_hash);
    perform context.establish(p_organization_id);
    update invitations i set accepted_at = now()
    where i.invitation_id = invitation.invitation_id and i.accepted_at is null;
    if not found then
        return;
    end if;
    organization_id := p_organization_id;
    user_id := auth.add_user(
        invitation.email, p_name, invitation.role, invitation.provider_id, invitation.patient_id, p_password_hash);
    role := invitation.role;
    return next;
end
$$;

-- Opens a session with its first refresh token. Returns false if the password was changed since it was checked: a change ends all sessions
-- of the previous password, and must end this one.
-- p_changed_at: change time of the password that was checked; null for a user who has just joined.
-- p_new_hash: a new hash of the same password, if the hash parameters were raised; else null.
-- It also deletes the user's sessions that are older than a day and have no usable refresh token.
create or replace function auth.open_session(
    p_organization_id uuid, p_user_id uuid, p_session_id uuid, p_refresh_hash bytea, p_seconds integer,
    p_changed_at timestamptz, p_new_hash text, p_proof text)
returns boolean
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
begin
    perform context.verify_call(
        p_proof, 'open_session', p_organization_id::text, p_user_id::text, p_session_id::text, encode(p_refresh_hash, 'hex'),
        p_seconds::text, (extract(epoch from p_changed_at) * 1000000)::bigint::text, p_new_hash);
    perform context.establish(p_organization_id);
    if p_changed_at is not null then  -- the lock makes a concurrent change wait for this session, which it then ends
        perform from auth.credentials c join users u on u.organization_id = c.organization_id and u.email = c.email
        where u.user_id = p_user_id and c.changed_at = p_changed_at for no key update of c;
        if not found then
            return false;
        end if;
    end if;
    delete from auth.sessions s
    where s.organization_id = p_organization_id and s.user_id = p_user_id
      and s.created_at < now() - interval '1 day'
      and not exists (
        select from auth.refresh_tokens t
        where t.organization_id = s.organization_id and t.session_id = s.session_id and t.expires_at > now());
    perform auth.delete_expired_rate_limits();
    insert into auth.sessions (organization_id, session_id, user_id) values (p_organization_id, p_session_id, p_user_id);
    insert into auth.refresh_tokens (token_hash, organization_id, session_id, expires_at)
    values (p_refresh_hash, p_organization_id, p_session_id, now() + make_interval(secs => p_seconds));
    if p_new_hash is not null then
        update auth.credentials c set password_hash = p_new_hash
        from users u
        where u.user_id = p_user_id and c.organization_id = u.organization_id and c.email = u.email;
    end if;
    return true;
end
$$;

-- Exchanges a refresh token for its successor. No row: the client must log in again.
-- * Each token has one successor, derived from the token with a key of the API. p_successors: the hashes of the candidates, 32 bytes each,
--   one for every key; the first is stored. place: which of them the successor is, from 1.
-- * A replaced token is accepted for 10 seconds more and gives the same successor, because a client may send it twice (two tabs, a lost
--   response). Later use counts as theft and ends the session.
-- * The session's row is locked first, so that no token is renewed while another transaction ends the session.
create or replace function auth.refresh(p_old_hash bytea, p_successors bytea, p_seconds integer, p_proof text)
returns table (organization_id uuid, user_id uuid, role text, session_id uuid, place integer)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
#variable_conflict use_column
declare
    old_token auth.refresh_tokens;
    login_session auth.sessions;
    successor integer := 1;
begin
    perform context.verify_call(p_proof, 'refresh', encode(p_old_hash, 'hex'), encode(p_successors, 'hex'), p_seconds::text);
    select t.* into old_token from auth.refresh_tokens t where t.token_hash = p_old_hash;
    if not found then
        return;
    end if;
    select s.* into login_session from auth.sessions s
    where s.organization_id = old_token.organization_id and s.session_id = old_token.session_id for update;
    select t.* into old_token from auth.refresh_tokens t where t.token_hash = p_old_hash;
    if not found or login_session.ended_at is not null or old_token.expires_at <= now() then
        return;
    end if;
    perform context.establish(login_session.organization_id);
    if old_token.replaced_at < clock_timestamp() - interval '10 seconds' then
        update auth.sessions s set ended_at = now()
        where s.organization_id = login_session.organization_id and s.session_id = login_session.session_id;
        perform write_audit_entry('denied', 'users', login_session.user_id, null, 'a dead refresh token was used');
        return;
    end if;
    if not exists (
        select from users u join organizations o on o.organization_id = u.organization_id
        where u.user_id = login_session.user_id and u.active and o.suspended_at is null)
    then
        return;
    end if;
    if old_token.replaced_at is null then
        update auth.refresh_tokens t set replaced_at = clock_timestamp() where t.token_hash = p_old_hash;
        insert into auth.refresh_tokens (token_hash, organization_id, session_id, expires_at)
        values (substr(p_successors, 1, 32), login_session.organization_id, login_session.session_id,
                now() + make_interval(secs => p_seconds));
    else
        select n into successor from generate_series(1, length(p_successors) / 32) as n
        where exists (
            select from auth.refresh_tokens t
            where t.token_hash = substr(p_successors, n * 32 - 31, 32) and t.session_id = login_session.session_id)
        order by n limit 1;
        if successor is null then  -- the API no longer has the key that the successor was derived with
            return;
        end if;
    end if;
    return query
    select u.organization_id, u.user_id, u.role, login_session.session_id, successor
    from users u where u.user_id = login_session.user_id;
end
$$;

-- Ends the caller's session or, with p_refresh_hash, the session of that refresh token. False if the token is not one of the caller's.
create or replace function auth.log_out(p_refresh_hash bytea, p_proof text) returns boolean
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    caller uuid := context.required_id(current_user, 'user_id');  -- verifies the context, because no policy of a tenant table does it here
begin
    perform context.verify_call(p_proof, 'log_out', caller::text, encode(p_refresh_hash, 'hex'));
    update auth.sessions s set ended_at = coalesce(s.ended_at, now())
    where s.organization_id = organization_id() and s.user_id = caller
      and s.session_id = case
        when p_refresh_hash is null then context.variable('session_id')
        else (select t.session_id from auth.refresh_tokens t where t.token_hash = p_refresh_hash) end;
    if not found then
        return false;
    end if;
    perform write_audit_entry('execute', 'users', caller, null, 'logged out');
    return true;
end
$$;

-- The hash of the caller's current password, and when the password was set.
create or replace function auth.my_password_hash(p_proof text, out password_hash text, out changed_at timestamptz)
language plpgsql stable security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    caller uuid := context.required_id(current_user, 'user_id');
begin
    perform context.verify_call(p_proof, 'my_password_hash', caller::text);
    select c.password_hash, c.changed_at into password_hash, changed_at
    from auth.credentials c join users u on u.organization_id = c.organization_id and u.email = c.email
    where u.user_id = caller;
end
$$;

-- Sets the caller's password. Ends the caller's other sessions and deletes the refresh tokens of this one.
-- p_changed_at: change time of the password that was checked. If it was changed since, the function changes nothing and returns false.
-- p_refresh_hash: hash of a new refresh token for this session, or null.
-- The sessions are locked first, in the order of their ids, so that no concurrent refresh adds a token to one of them.
create or replace function auth.set_my_password(
    p_new_hash text, p_changed_at timestamptz, p_refresh_hash bytea, p_seconds integer, p_proof text)
returns boolean
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    caller uuid := context.required_id(current_user, 'user_id');
begin
    perform context.verify_call(
        p_proof, 'set_my_password', caller::text, p_new_hash, (extract(epoch from p_changed_at) * 1000000)::bigint::text,
        encode(p_refresh_hash, 'hex'), p_seconds::text);
    update auth.credentials c set password_hash = p_new_hash, changed_at = clock_timestamp()
    from users u
    where u.user_id = caller and c.organization_id = u.organization_id and c.email = u.email and c.changed_at = p_changed_at;
    if not found then
        return false;
    end if;
    perform from auth.sessions s where s.organization_id = organization_id() and s.user_id = caller and s.ended_at is null
    order by s.session_id for update;
    update auth.sessions s set ended_at = now()
    where s.organization_id = organization_id() and s.user_id = caller
      and s.session_id <> context.variable('session_id') and s.ended_at is null;
    delete from auth.refresh_tokens t
    where t.organization_id = organization_id() and t.session_id = context.variable('session_id');
    if p_refresh_hash is not null then
        insert into auth.refresh_tokens (token_hash, organization_id, session_id, expires_at)
        values (p_refresh_hash, organization_id(), context.variable('session_id'), now() + make_interval(secs => p_seconds));
    end if;
    perform write_audit_entry('execute', 'users', caller, null, 'changed its password');
    return true;
end
$$;

-- Records a failed login in the audit log of every organization whose membership it was compared with, and in that of the slug, even if
-- the user is inactive or the organization suspended.
create or replace function auth.record_failed_login(p_email text, p_slug text, p_request_id text, p_address text, p_proof text) returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
declare
    tenant uuid;
begin
    perform context.verify_call(p_proof, 'record_failed_login', p_email, p_slug, p_request_id, p_address);
    for tenant in
        select m.organization_id from auth.memberships(p_email, p_slug) m
        union
        select t.organization_id from auth.organization_lookup t where t.slug = p_slug
    loop
        perform context.establish(tenant, p_request_id => p_request_id, p_address => p_address);
        perform write_audit_entry('login_failed', 'users', u.user_id, null, 'failure') from users u where u.email = lower(p_email);
    end loop;
end
$$;

-- Ends all sessions of a user who is deactivated. Also when the user is activated again: a login that ran at the same time as the
-- deactivation may have left a session that did not exist yet when the others ended.
create or replace function auth.end_sessions() returns trigger
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
begin
    update auth.sessions s set ended_at = now()
    where s.organization_id = new.organization_id and s.user_id = new.user_id and s.ended_at is null;
    return null;
end
$$;

do $$
declare
    name text;
begin
    foreach name in array array[
        'probe', 'memberships', 'find_logins', 'find_password_hash', 'add_organization', 'add_user', 'register', 'open_invitation',
        'find_invitation', 'accept_invitation', 'open_session', 'refresh', 'log_out', 'my_password_hash', 'set_my_password',
        'record_failed_login', 'end_sessions']
    loop
        execute format('alter function auth.%s owner to claims_auth_definer', name);
    end loop;
end
$$;

grant execute on function auth.probe, auth.find_logins, auth.find_password_hash, auth.register, auth.find_invitation,
    auth.accept_invitation, auth.open_session, auth.refresh, auth.record_failed_login to claims_api;
grant execute on function auth.log_out, auth.my_password_hash, auth.set_my_password
    to claims_admin, claims_processor, claims_provider, claims_patient;
