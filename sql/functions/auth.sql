-- Logging in, joining, and staying logged in, before there is a tenant. All run as claims_auth_definer. The API signs each call, the function with
-- its arguments (p_proof), so that SQL injected into a request can call none of them, nor the one that its request calls for another user.

-- The memberships that a login is compared with, of those that may log in: where there is a slug, that organization's; else the email's
-- oldest and those whose email was proven. Anybody may register an organization under anybody's email: were such a membership compared
-- with the others, its password would tell whether it is theirs as well. Each is looked up inside its own tenant, so no statement here
-- sees two tenants' users. Twenty at most: each may cost a hash.
create or replace function auth.memberships(p_email text, p_slug text)
returns table (organization_id uuid, user_id uuid, role text, password_hash text, changed_at timestamptz)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
declare
    candidate auth.credentials;
    added integer;
    in_all integer := 0;
begin
    for candidate in
        select c.* from auth.credentials c
        where c.email = lower(p_email)
          and (p_slug is null or c.organization_id = (select t.organization_id from auth.organization_lookup t where t.slug = p_slug))
        order by c.joined_at, c.organization_id
    loop
        continue when in_all > 0 and candidate.proven_at is null;
        perform context.establish(candidate.organization_id);
        return query
        select u.organization_id, u.user_id, u.role, candidate.password_hash, candidate.changed_at
        from users u join organizations o on o.organization_id = u.organization_id
        where u.email = candidate.email and u.active and o.suspended_at is null;
        get diagnostics added = row_count;
        in_all := in_all + added;
        exit when in_all = 20;
    end loop;
end
$$;

create or replace function auth.find_logins(p_email text, p_slug text, p_proof text)
returns table (organization_id uuid, user_id uuid, role text, password_hash text, changed_at timestamptz)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
begin
    perform context.verify_call(p_proof, 'find_logins', p_email, p_slug);
    return query select * from auth.memberships(p_email, p_slug);
end
$$;

-- Any hash of the email, for its salt.
create or replace function auth.find_password_hash(p_email text, p_proof text) returns text
language plpgsql stable security definer set search_path = app, pg_catalog, pg_temp as $$
begin
    perform context.verify_call(p_proof, 'find_password_hash', p_email);
    return (select c.password_hash from auth.credentials c where c.email = lower(p_email) order by c.organization_id limit 1);
end
$$;

-- Whether what the API signs would be accepted, asked at its start and by readiness: ok; unknown, where there is no key p_kid; another
-- secret, where the key of that name is another; clock, where only the time is refused.
create or replace function auth.probe(p_kid text, p_proof text) returns text
language plpgsql stable security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    said text := format('5:probe%s:%s', octet_length(p_kid), p_kid);
    inside bytea;
    outside bytea;
begin
    select k.inner_pad, k.outer_pad into inside, outside from context.keys k where k.kid = p_kid and k.kid <> 'self';
    return case
        when inside is null then 'unknown'
        when context.is_signed(p_proof, said, inside, outside) is not true then 'another secret'
        when context.is_valid_proof(p_proof, said, inside, outside) then 'ok'
        else 'clock' end;
end
$$;

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

-- A user of the organization whose context is set, who may log in from then on.
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

-- A new tenant and its first admin. The slug is made of the name; where that is taken, four random digits follow.
create or replace function auth.register(p_organization text, p_email text, p_name text, p_password_hash text, p_proof text)
returns table (organization_id uuid, user_id uuid, role text)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
declare
    plain text := coalesce(nullif(trim(both '-' from left(regexp_replace(lower(p_organization), '[^a-z0-9]+', '-', 'g'), 58)), ''), 'org');
    wanted text := case when length(plain) < 2 then plain || '-org' else plain end;
begin
    perform context.verify_call(p_proof, 'register', p_organization, p_email, p_name, p_password_hash);
    loop
        begin
            organization_id := auth.add_organization(wanted, p_organization);
            exit;
        exception when unique_violation then
            wanted := plain || '-' || left(replace(gen_random_uuid()::text, '-', ''), 4);
        end;
    end loop;
    user_id := auth.add_user(p_email, p_name, 'admin', null, null, p_password_hash);
    role := 'admin';
    return next;
end
$$;

-- The invitation a token opens, as long as it is open: a row, or none for every reason there is.
create or replace function auth.open_invitation(p_organization_id uuid, p_token_hash bytea) returns setof app.invitations
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
begin
    perform context.establish(p_organization_id);
    return query
    select i.* from invitations i join organizations o on o.organization_id = i.organization_id
    where i.token_hash = p_token_hash and i.accepted_at is null and i.expires_at > now() and o.suspended_at is null;
end
$$;

create or replace function auth.find_invitation(p_organization_id uuid, p_token_hash bytea, p_proof text) returns setof app.invitations
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
begin
    perform context.verify_call(p_proof, 'find_invitation', p_organization_id::text, encode(p_token_hash, 'hex'));
    return query select * from auth.open_invitation(p_organization_id, p_token_hash);
end
$$;

-- Spends an invitation: its user joins with its email and role. No row where it is spent, expired or none.
create or replace function auth.accept_invitation(
    p_organization_id uuid, p_token_hash bytea, p_name text, p_password_hash text, p_proof text)
returns table (organization_id uuid, user_id uuid, role text)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
declare
    found_one invitations;
begin
    perform context.verify_call(
        p_proof, 'accept_invitation', p_organization_id::text, encode(p_token_hash, 'hex'), p_name, p_password_hash);
    select * into found_one from auth.open_invitation(p_organization_id, p_token_hash);
    perform context.establish(p_organization_id);
    update invitations i set accepted_at = now()
    where i.invitation_id = found_one.invitation_id and i.accepted_at is null;
    if not found then
        return;
    end if;
    organization_id := p_organization_id;
    user_id := auth.add_user(
        found_one.email, p_name, found_one.role, found_one.provider_id, found_one.patient_id, p_password_hash);
    role := found_one.role;
    return next;
end
$$;

-- A new session and its first refresh token; at the same time the password's hash, where its parameters rose. What this user's
-- earlier sessions left behind goes once it can't be used any more. p_changed_at: of the password that was proven, null for who has
-- just joined. False where it has been changed since: a change ends the sessions of the one before, this one too.
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
    if p_changed_at is not null then  -- locked, so that a change waits for this session and ends it
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

-- Trades a refresh token for its one successor. p_successors: hashes of 32 bytes each, one for every key that the API may have derived
-- the successor from the token by; the first is added. A token is dead once it is traded. For ten seconds more it still may be an honest
-- client's second request (two tabs, a lost answer), which is answered with the same successor; after that it was stolen, and its session
-- ends. The session's row is locked first, so that nothing is renewed while another transaction ends it. No row: log in again.
-- place: which of p_successors it is, from 1.
create or replace function auth.refresh(p_old_hash bytea, p_successors bytea, p_seconds integer, p_proof text)
returns table (organization_id uuid, user_id uuid, role text, session_id uuid, place integer)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
#variable_conflict use_column
declare
    old_token auth.refresh_tokens;
    family auth.sessions;
    which integer := 1;
begin
    perform context.verify_call(p_proof, 'refresh', encode(p_old_hash, 'hex'), encode(p_successors, 'hex'), p_seconds::text);
    select t.* into old_token from auth.refresh_tokens t where t.token_hash = p_old_hash;
    if not found then
        return;
    end if;
    select s.* into family from auth.sessions s
    where s.organization_id = old_token.organization_id and s.session_id = old_token.session_id for update;
    select t.* into old_token from auth.refresh_tokens t where t.token_hash = p_old_hash;
    if not found or family.ended_at is not null or old_token.expires_at <= now() then
        return;
    end if;
    perform context.establish(family.organization_id);
    if old_token.replaced_at < clock_timestamp() - interval '10 seconds' then
        update auth.sessions s set ended_at = now()
        where s.organization_id = family.organization_id and s.session_id = family.session_id;
        perform write_audit_entry('denied', 'users', family.user_id, null, 'a dead refresh token was used');
        return;
    end if;
    if not exists (
        select from users u join organizations o on o.organization_id = u.organization_id
        where u.user_id = family.user_id and u.active and o.suspended_at is null)
    then
        return;
    end if;
    if old_token.replaced_at is null then
        update auth.refresh_tokens t set replaced_at = clock_timestamp() where t.token_hash = p_old_hash;
        insert into auth.refresh_tokens (token_hash, organization_id, session_id, expires_at)
        values (substr(p_successors, 1, 32), family.organization_id, family.session_id, now() + make_interval(secs => p_seconds));
    else
        select n into which from generate_series(1, length(p_successors) / 32) as n
        where exists (
            select from auth.refresh_tokens t
            where t.token_hash = substr(p_successors, n * 32 - 31, 32) and t.session_id = family.session_id)
        order by n limit 1;
        if which is null then  -- the key that it was derived by is none of the API's any more
            return;
        end if;
    end if;
    return query select u.organization_id, u.user_id, u.role, family.session_id, which from users u where u.user_id = family.user_id;
end
$$;

-- Ends the caller's session, or the one that a refresh token of the caller belongs to; false where it belongs to nobody here.
create or replace function auth.log_out(p_refresh_hash bytea, p_proof text) returns boolean
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    caller uuid := context.required_id(current_user, 'user_id');  -- no tenant table is asked here
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

-- The hash that the caller's current password is compared with, and since when it holds.
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

-- A new password for the caller. Every other session of the caller's ends, and so do all its refresh tokens; p_refresh_hash: of a new one
-- for this session, or null. The sessions are locked first, in order, so that no refresh adds a token to one of them meanwhile.
-- p_changed_at: of the password that was proven. False, and nothing happens, where it has been changed since.
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

-- A login that failed, in the trail of every organization whose membership it was compared with, and of one that its slug names where
-- the user or the organization may not log in.
create or replace function auth.record_failed_login(p_email text, p_slug text, p_request_id text, p_address text, p_proof text) returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp set app.mac = '' as $$
declare
    tried uuid;
begin
    perform context.verify_call(p_proof, 'record_failed_login', p_email, p_slug, p_request_id, p_address);
    for tried in
        select m.organization_id from auth.memberships(p_email, p_slug) m
        union
        select t.organization_id from auth.organization_lookup t where t.slug = p_slug
    loop
        perform context.establish(tried, p_request_id => p_request_id, p_address => p_address);
        perform write_audit_entry('login_failed', 'users', u.user_id, null, 'failure') from users u where u.email = lower(p_email);
    end loop;
end
$$;

-- A user who is deactivated is logged out everywhere. Activated again it is, too: a login may have begun while the deactivation was under
-- way, and its session was not there to be ended.
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
        'find_invitation', 'accept_invitation', 'open_session', 'refresh', 'log_out', 'my_password_hash', 'set_my_password', 'record_failed_login',
        'end_sessions']
    loop
        execute format('alter function auth.%s owner to claims_auth_definer', name);
    end loop;
end
$$;

grant execute on function auth.probe, auth.find_logins, auth.find_password_hash, auth.register, auth.find_invitation, auth.accept_invitation,
    auth.open_session, auth.refresh, auth.record_failed_login to claims_api;
grant execute on function auth.log_out, auth.my_password_hash, auth.set_my_password
    to claims_admin, claims_processor, claims_provider, claims_patient;
