-- Entering a context: the one way to become somebody. Whoever can run SQL as the API's login can set any variable, so a variable
-- alone is worth nothing: the API signs who is calling, ctx.enter verifies that and leaves its own signature over the variables,
-- the backend and the transaction, and policies take from ctx.entered() alone whose rows they let through.
-- All run as claims_gate, who may read users and organizations but, like everybody, only inside the tenant that is set. ctx.enter alone
-- runs as claims_usher, whom no signature is asked of: it looks the caller up before there is a context to be signed.
-- Every request pays for this file. A function of one expression has its names bound when it is made and no search_path of its own, so
-- that it becomes part of what calls it; the rest is plpgsql, which assigns where a statement would do no more. ctx.verify and ctx.assume
-- are called by definer functions alone and keep to their search_path: a plan that two paths share is made anew at every change.

drop function if exists ctx.valid(name) cascade;  -- what policies asked once; their files, which follow, ask ctx.entered

-- HMAC-SHA256 (RFC 2104) with the key that these are the halves of.
create or replace function ctx.mac(inner_pad bytea, outer_pad bytea, message bytea) returns bytea
language sql immutable
return sha256(outer_pad || sha256(inner_pad || message));

-- With the database's own key, in hex.
create or replace function ctx.own_mac(message bytea) returns text
language plpgsql stable as $$
declare
    inside bytea;
    outside bytea;
begin
    select k.inner_pad, k.outer_pad into inside, outside from ctx.keys k where k.kid = 'self';
    return encode(ctx.mac(inside, outside, message), 'hex');
end
$$;

-- Everything that a context consists of, and where it holds: this backend, this transaction.
create or replace function ctx.stated() returns bytea
language sql stable
return convert_to(array_to_string(array[pg_backend_pid()::text, now()::text,
    current_setting('app.organization_id', true), current_setting('app.user_id', true), current_setting('app.session_id', true),
    current_setting('app.role', true), current_setting('app.provider_id', true), current_setting('app.patient_id', true),
    current_setting('app.request_id', true), current_setting('app.address', true), current_setting('app.source', true)], e'\n', ''),
    'UTF8');

-- The caller's organization_id, or another id of the context, null where it is empty; raises in a context that this file did not make,
-- or made for another role. Checked and read in one call, which policies make once a statement: a variable by itself may be another at
-- every row. The logins of API and worker alone need a signature: an operator who acts in psql is asked by the policies.
-- p_role: who asks, as the database calls it; the functions of claims_gate and claims_recorder act within anybody's context, and
-- ctx.enter before there is one.
create or replace function ctx.entered(p_role name, p_what text default 'organization_id') returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    inside bytea;
    outside bytea;
begin
    if session_user in ('claims_api', 'claims_worker') and p_role is distinct from 'claims_usher' then
        -- What ctx.own_mac does: the call would cost as much as both hashes, at every reference to a table.
        select k.inner_pad, k.outer_pad into inside, outside from ctx.keys k where k.kid = 'self';
        if (current_setting('app.mac', true) = encode(ctx.mac(inside, outside, ctx.stated()), 'hex')
            and p_role in ('claims_gate', 'claims_recorder', ctx.role_name(current_setting('app.role', true)))) is not true then
            raise exception using errcode = '28000', message = 'this context was not entered';
        end if;
    end if;
    return nullif(current_setting('app.' || p_what), '')::uuid;
end
$$;

-- Whether a row's id is the one that ctx.entered gave. It stands beside a comparison with the variable, which chooses the index and the
-- plan, as its value is known when a statement is planned; this one decides. No second `=`, of which the planner would leave out either.
create or replace function ctx.same(of_row uuid, of_context uuid) returns boolean
language sql immutable
return case when of_row = of_context then true end;

-- The database's role for the product's.
create or replace function ctx.role_name(product_role text) returns text
language sql immutable
return case product_role when 'claims_processor' then 'claims_processor' else 'claims_' || product_role end;

-- The variables of a context, signed. p_role is empty inside a tenant that nobody has logged into yet: only claims_gate's and
-- claims_recorder's own statements are valid then. Whoever assumes such a context for the API has `set app.mac = ''` among its own
-- settings, so that it ends with the function.
create or replace function ctx.assume(
    p_organization_id uuid, p_user_id uuid default null, p_session_id uuid default null, p_role text default '',
    p_provider_id uuid default null, p_patient_id uuid default null, p_request_id text default '', p_address text default '',
    p_source text default '')
returns void
language plpgsql as $$
declare
    inside bytea;
    outside bytea;
    done text;
begin
    done := concat(
        set_config('app.organization_id', coalesce(p_organization_id::text, ''), true),
        set_config('app.user_id', coalesce(p_user_id::text, ''), true),
        set_config('app.session_id', coalesce(p_session_id::text, ''), true),
        set_config('app.role', p_role, true),
        set_config('app.provider_id', coalesce(p_provider_id::text, ''), true),
        set_config('app.patient_id', coalesce(p_patient_id::text, ''), true),
        set_config('app.request_id', p_request_id, true),
        set_config('app.address', p_address, true),
        set_config('app.source', p_source, true));
    select k.inner_pad, k.outer_pad into inside, outside from ctx.keys k where k.kid = 'self';
    done := set_config('app.mac', encode(ctx.mac(inside, outside, ctx.stated()), 'hex'), true);
end
$$;

-- Whether the API's key is known here: asked at its start, before a request finds out.
create or replace function ctx.is_known(p_kid text) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select exists (select from ctx.keys k where k.kid = p_kid and k.kid <> 'self')
$$;

-- Raises unless the API signed exactly this within the last minute, or the caller is an operator.
create or replace function ctx.verify(p_kid text, p_expires bigint, p_signature bytea, variadic said text[]) returns void
language plpgsql stable as $$
declare
    inside bytea;
    outside bytea;
begin
    if session_user <> 'claims_api' then
        return;
    end if;
    select k.inner_pad, k.outer_pad into inside, outside from ctx.keys k where k.kid = p_kid and k.kid <> 'self';
    if (p_expires - extract(epoch from now()) between -5 and 65
        and ctx.mac(inside, outside, convert_to(array_to_string(said || p_expires::text, e'\n', ''), 'UTF8')) = p_signature
       ) is not true then
        raise exception using errcode = '28000', message = 'not signed';
    end if;
end
$$;

-- The caller's context for this transaction; returns the database role to become:
--   select set_config('role', ctx.enter(...), true)
-- Role, provider and patient are read here, so that a change holds from the next request on. The API must name a session that has
-- not ended; whoever else may enter (an operator who looks at the data as a user does) needs none.
create or replace function ctx.enter(
    p_organization_id uuid, p_user_id uuid, p_session_id uuid, p_request_id text, p_address text, p_source text,
    p_read_only boolean, p_kid text default null, p_expires bigint default null, p_signature bytea default null)
returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    caller record;
    done text;
begin
    perform ctx.verify(p_kid, p_expires, p_signature, p_organization_id::text, p_user_id::text, p_session_id::text, p_request_id,
                       p_address, p_source);
    done := set_config('app.organization_id', p_organization_id::text, true);
    select u.role, u.provider_id, u.patient_id into caller
    from app.users u join app.organizations o on o.organization_id = u.organization_id
    left join auth.sessions s on s.organization_id = u.organization_id and s.session_id = p_session_id and s.user_id = u.user_id
    where u.user_id = p_user_id and u.active and o.suspended_at is null
      and (s.user_id is not null and s.ended_at is null
           or p_session_id is null and session_user <> 'claims_api');
    if not found then
        raise exception using errcode = '28000', message = 'nobody to act as';
    end if;
    perform ctx.assume(p_organization_id, p_user_id, p_session_id, caller.role, caller.provider_id, caller.patient_id,
                       p_request_id, p_address, p_source);
    if p_read_only then
        done := set_config('transaction_read_only', 'on', true);
    end if;
    return ctx.role_name(caller.role);
end
$$;

-- The context of a job: inside the tenant of an event that stands there, as claims_system.
create or replace function ctx.enter_job(p_organization_id uuid, p_event_id uuid) returns text
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
begin
    perform ctx.assume(p_organization_id, p_role => 'system');
    perform ctx.turn_to(p_event_id);  -- raises where there is no such event, and the variables go with the transaction
    return 'claims_system';
end
$$;

-- The same for another event of the same organization, within a job's context.
create or replace function ctx.turn_to(p_event_id uuid) returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
begin
    perform ctx.entered('claims_system');
    if not exists (select from patient_status_events where event_id = p_event_id) then
        raise exception using errcode = '28000', message = 'no such event';
    end if;
    perform ctx.assume(organization_id(), p_role => 'system', p_request_id => p_event_id::text, p_source => 'job');
end
$$;

-- The API at the door, before there is a caller: its signature opens the functions of the schema auth for this transaction. Without
-- it SQL injected into a request could open a session for anybody, or read the hash of anybody's password.
create or replace function ctx.knock(p_kid text, p_expires bigint, p_signature bytea) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform ctx.verify(p_kid, p_expires, p_signature, 'door');
    perform set_config('app.door', ctx.own_mac(ctx.door()), true);
end
$$;

create or replace function ctx.door() returns bytea
language sql stable set search_path = pg_catalog, pg_temp
return convert_to(concat_ws(e'\n', 'door', pg_backend_pid(), now()), 'UTF8');

-- Raises unless the API knocked in this transaction, or the caller is an operator.
create or replace function ctx.at_door() returns void
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    if session_user = 'claims_api'
       and not coalesce(current_setting('app.door', true) = ctx.own_mac(ctx.door()), false) then
        raise exception using errcode = '28000', message = 'nobody knocked';
    end if;
end
$$;

alter function ctx.enter owner to claims_usher;
alter function ctx.knock owner to claims_gate;
alter function ctx.enter_job owner to claims_gate;
alter function ctx.turn_to owner to claims_gate;
alter function ctx.entered owner to claims_gate;
alter function ctx.is_known owner to claims_gate;
grant execute on all functions in schema ctx to claims_gate;
grant execute on function ctx.verify, ctx.assume, ctx.mac, ctx.stated, ctx.role_name, ctx.entered, ctx.same to claims_usher;
grant execute on function ctx.enter, ctx.knock, ctx.is_known to claims_api;
grant execute on function ctx.enter_job to claims_worker;
grant execute on function ctx.turn_to to claims_system;
grant execute on function ctx.entered, ctx.same
    to claims_admin, claims_processor, claims_provider, claims_patient, claims_system, claims_recorder, claims_sealer, claims_owner;

select schema_admin.drop_policies('ctx.keys');
revoke all on ctx.keys from public;
grant select on ctx.keys to claims_gate, claims_usher;
create policy keys_gate on ctx.keys for select to claims_gate, claims_usher using (true);
