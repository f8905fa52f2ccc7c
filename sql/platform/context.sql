-- The context of a request: the one way to act as a user. Any login can set a variable, so a variable alone proves nothing. The API signs
-- who is calling, ctx.enter verifies that and leaves its own signature over the variables, the backend and the transaction, and policies
-- compare with what ctx.entered and ctx.verified give.
-- All functions run as claims_gate, which may read users and organizations but, like every role, only inside the tenant that is set.
-- ctx.enter alone runs as claims_usher: it looks the caller up before there is a context to be signed, and the policies that ask for one
-- are not for its role.
-- Every request pays for this file. A function of one expression has its names bound when it is made and no search_path of its own, so
-- that it becomes part of what calls it; the rest is plpgsql, which assigns where a statement would do no more. ctx.verify and ctx.assume
-- are called by definer functions alone and keep to their search_path: a plan that two paths share is made anew at every change.

drop function if exists ctx.valid(name) cascade;  -- what policies asked once; their files, which follow, ask ctx.entered

-- HMAC-SHA256 (RFC 2104) with the key that these are the halves of.
create or replace function ctx.mac(inner_pad bytea, outer_pad bytea, message bytea) returns bytea
language sql immutable
return sha256(outer_pad || sha256(inner_pad || message));

-- Everything that a context consists of, and where it holds: this backend, this transaction, and whether that may write.
create or replace function ctx.stated() returns bytea
language sql stable
return convert_to(concat(pg_backend_pid(), e'\n', extract(epoch from now()), e'\n', current_setting('transaction_read_only'), e'\n',
    current_setting('app.organization_id', true), e'\n', current_setting('app.user_id', true), e'\n',
    current_setting('app.session_id', true), e'\n', current_setting('app.role', true), e'\n', current_setting('app.provider_id', true), e'\n',
    current_setting('app.patient_id', true), e'\n', current_setting('app.request_id', true), e'\n', current_setting('app.address', true),
    e'\n', current_setting('app.source', true)), 'UTF8');

-- The database's role for the product's.
create or replace function ctx.role_name(product_role text) returns text
language sql immutable
return case product_role when 'claims_processor' then 'claims_processor' else 'claims_' || product_role end;

-- Whether the session may act without a signature: a superuser, or a login that an administrator made an operator. No other login may,
-- whatever its name and whatever it was granted.
create or replace function ctx.is_operator() returns boolean
language sql stable
return pg_has_role(session_user, 'claims_operator', 'member');

-- Called where a variable of the context holds no id, so that it is no context.
create or replace function ctx.not_verified() returns uuid
language plpgsql stable parallel safe as $$
begin
    raise exception using errcode = '28000', message = 'context not verified';
end
$$;

-- The id that a variable of the context names, null where it is empty. Nothing is verified: it chooses an index and a plan, for which its
-- value is needed when a statement is planned, and ctx.verified decides beside it. Raises where the variable holds no id; there is no
-- context without an organization. With a search_path of its own: else it would be planned anew at every change between the caller's
-- and those of definer functions. cost 1: a scan calls it once, but the planner charges a bitmap scan for it at every row.
create or replace function ctx.variable(p_what text) returns uuid
language plpgsql stable cost 1 set search_path = pg_catalog, pg_temp as $$
begin
    return case when p_what = 'organization_id' then current_setting('app.organization_id')
                else nullif(current_setting('app.' || p_what), '') end::uuid;
exception when invalid_text_representation or undefined_object then
    return ctx.not_verified();
end
$$;

-- Whether the variables are as they were signed, in this transaction, for this role: current_user of the statement that asks. The
-- functions of claims_gate and claims_recorder act within any context, those of claims_as_... within that of their role.
create or replace function ctx.fits(inner_pad bytea, outer_pad bytea, p_role name) returns boolean
language sql stable
return coalesce(
    current_setting('app.mac', true) = encode(ctx.mac(inner_pad, outer_pad, ctx.stated()), 'hex')
    and (p_role in ('claims_gate', 'claims_recorder')
         or replace(p_role, 'claims_as_', 'claims_') = ctx.role_name(current_setting('app.role', true))),
    false);

-- The id in a session that has no signature: an operator's variable as it is; of a reporting login the organization that was noted for it,
-- where its variable, which comes from its role's settings, names the same. Every other session gets null, or an error if p_raises; so
-- does a reporting login that was granted another role of the product, which would change rows or read more of them.
create or replace function ctx.unsigned(p_what text, p_raises boolean) returns uuid
language plpgsql stable as $$
declare
    noted uuid;
begin
    if ctx.is_operator() then
        return ctx.variable(p_what);
    end if;
    select r.organization_id into noted from ctx.reporters r
    where r.login = session_user and p_what = 'organization_id' and r.organization_id = ctx.variable('organization_id')
      and pg_has_role(session_user, 'claims_reporting', 'member')
      and not exists (
        select from pg_roles other
        where other.rolname ~ '^claims_' and other.rolname !~ '^claims_reporting(_personal)?$'
          and pg_has_role(session_user, other.oid, 'member'));
    return case when noted is null and p_raises then ctx.not_verified() else noted end;
end
$$;

-- The caller's organization_id, or another id of the context, null where it is empty. In a context that this file did not make, or made
-- for another role, it raises or is null, as p_raises says; of an operator the variable is taken as it is. Checked and read in one call: a
-- variable by itself may be another at every row. One body for both, since plpgsql prepares each expression once a transaction.
create or replace function ctx.checked(p_role name, p_what text, p_raises boolean) returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    inside bytea;
    outside bytea;
begin
    select k.inner_pad, k.outer_pad into inside, outside from ctx.keys k where k.kid = 'self';
    if not ctx.fits(inside, outside, p_role) then
        return ctx.unsigned(p_what, p_raises);
    end if;
    return nullif(current_setting('app.' || p_what), '')::uuid;
end
$$;

-- What `<table>_entered` asks before a scan begins: raises.
create or replace function ctx.entered(p_role name, p_what text default 'organization_id') returns uuid
language sql stable
return ctx.checked(p_role, p_what, true);

-- What a policy compares each row with: null where ctx.entered would raise. A variable that was changed after the scan began must not
-- raise here, since that would tell that the scan has found a row.
create or replace function ctx.verified(p_role name, p_what text default 'organization_id') returns uuid
language sql stable
return ctx.checked(p_role, p_what, false);

-- uuid_eq and texteq of PostgreSQL, for less than an operator costs.
create or replace function ctx.equal(one uuid, other uuid) returns boolean
language internal immutable strict leakproof parallel safe cost 0.4 as 'uuid_eq';
create or replace function ctx.equal(one text, other text) returns boolean
language internal immutable strict leakproof parallel safe cost 0.4 as 'texteq';

-- Whether a row's id is the one that ctx.verified gave, and whether its text is not the excluded one. What decides about a row must be:
-- * no `=`, because the planner keeps one of several and the caller may add its own: an expression that changes while the statement runs
--   would take the place of ours;
-- * leakproof and cheaper than all that a caller may write, because the planner asks leakproof conditions in the order of their cost,
--   a policy's and the caller's alike, and a sub-select in one of the caller's runs only where it is reached: by an error, for example,
--   it tells that there is a row that fits. `=` costs 1, `= any (array[...])` costs 0.5. Conditions without any operator or function cost nothing
--   and still come first (sql/README.md).
-- Beside ctx.same stands a comparison with the variable, which chooses the index and the plan. A `case`, because the planner takes it to
-- hold for half of the rows, and a function for a third.
create or replace function ctx.same(of_row uuid, of_context uuid) returns boolean
language sql immutable
return case when ctx.equal(of_row, of_context) then true end;
create or replace function ctx.differs(of_row text, excluded text) returns boolean
language sql immutable
return case when ctx.equal(of_row, excluded) then null else true end;

-- Sets the variables of a context; what it returns means nothing.
create or replace function ctx.assign(
    p_organization_id uuid, p_user_id uuid, p_session_id uuid, p_role text, p_provider_id uuid, p_patient_id uuid, p_request_id text,
    p_address text, p_source text)
returns text
language sql
return concat(
    set_config('app.organization_id', coalesce(p_organization_id::text, ''), true),
    set_config('app.user_id', coalesce(p_user_id::text, ''), true),
    set_config('app.session_id', coalesce(p_session_id::text, ''), true),
    set_config('app.role', p_role, true),
    set_config('app.provider_id', coalesce(p_provider_id::text, ''), true),
    set_config('app.patient_id', coalesce(p_patient_id::text, ''), true),
    set_config('app.request_id', p_request_id, true),
    set_config('app.address', p_address, true),
    set_config('app.source', p_source, true));

-- The variables of a context, signed. p_role is empty inside a tenant that no user has logged into yet: only claims_gate's and
-- claims_recorder's own statements are valid then. A function that assumes such a context for the API has `set app.mac = ''` among its
-- own settings, so that it ends with the function.
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
    done := ctx.assign(p_organization_id, p_user_id, p_session_id, p_role, p_provider_id, p_patient_id, p_request_id, p_address, p_source);
    select k.inner_pad, k.outer_pad into inside, outside from ctx.keys k where k.kid = 'self';
    done := set_config('app.mac', encode(ctx.mac(inside, outside, ctx.stated()), 'hex'), true);
end
$$;

-- Whether the key that these are the halves of made the proof's signature, of exactly p_said; null where there is no such key.
create or replace function ctx.is_signed(p_proof text, p_said text, inner_pad bytea, outer_pad bytea) returns boolean
language sql stable
return encode(ctx.mac(inner_pad, outer_pad, convert_to(concat(
        p_said, e'\n', split_part(p_proof, ':', 2), e'\n', split_part(p_proof, ':', 3)), 'UTF8')), 'hex')
    = substr(p_proof, length(split_part(p_proof, ':', 1) || split_part(p_proof, ':', 2) || split_part(p_proof, ':', 3)) + 4);

-- The same, and whether the proof holds here and now.
-- p_proof: kid:expires:backend:signature; expires in seconds since 1970, the signature in hex over said, expires and backend, a line
-- each. Where backend is this one's process id the proof is good for a minute. 0: the API talks to a pooler and does not know where a
-- statement ends up, so the proof is good for five seconds anywhere; the clocks of API and database may differ by five more.
create or replace function ctx.proves(p_proof text, p_said text, inner_pad bytea, outer_pad bytea) returns boolean
language sql stable
return ctx.is_signed(p_proof, p_said, inner_pad, outer_pad)
    and case split_part(p_proof, ':', 3)
        when pg_backend_pid()::text then split_part(p_proof, ':', 2)::bigint - extract(epoch from now()) between -5 and 65
        when '0' then split_part(p_proof, ':', 2)::bigint - extract(epoch from now()) between 0 and 10
    end;

-- Raises for a proof that ctx.proves refused: CLOCK where only its time is wrong, so that the clocks of API and database differ; else 28000.
create or replace function ctx.refuse_proof(p_proof text, p_said text, inner_pad bytea, outer_pad bytea) returns void
language plpgsql stable as $$
begin
    if ctx.is_signed(p_proof, p_said, inner_pad, outer_pad) and split_part(p_proof, ':', 3) in (pg_backend_pid()::text, '0') then
        raise exception using errcode = 'CLOCK', message = 'signed for another time';
    end if;
    raise exception using errcode = '28000', message = 'not signed';
end
$$;

-- Raises unless the API signed exactly p_said, or the session is an operator's.
create or replace function ctx.verify(p_proof text, p_said text) returns void
language plpgsql stable as $$
declare
    inside bytea;
    outside bytea;
begin
    select k.inner_pad, k.outer_pad into inside, outside from ctx.keys k where k.kid = split_part(p_proof, ':', 1) and k.kid <> 'self';
    if ctx.proves(p_proof, p_said, inside, outside) is not true and not ctx.is_operator() then
        perform ctx.refuse_proof(p_proof, p_said, inside, outside);
    end if;
end
$$;

-- The same for a call of a function: its name and its arguments as text, each with its length in bytes before it, so that no two lists
-- read alike; null is `~`.
create or replace function ctx.verify_call(p_proof text, variadic p_said text[]) returns void
language plpgsql stable as $$
begin
    perform ctx.verify(p_proof, (
        select string_agg(coalesce(octet_length(said.word) || ':' || said.word, '~'), '' order by said.place)
        from unnest(p_said) with ordinality as said (word, place)));
end
$$;

-- The caller's context for this transaction; returns the database role to become:
--   select set_config('role', ctx.enter(...), true)
-- Role, provider and patient are read here, so that a change holds from the next request on. The API must name a session that has
-- not ended; an operator who looks at the data as a user does needs none. Raises ENDED where the caller may not come in, 28000 or CLOCK
-- where the proof is refused, which is never a client's fault.
create or replace function ctx.enter(
    p_organization_id uuid, p_user_id uuid, p_session_id uuid, p_request_id text, p_address text, p_source text,
    p_read_only boolean, p_proof text default null)
returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    keys record;
    caller record;
    said text := concat(p_organization_id, e'\n', p_user_id, e'\n', p_session_id, e'\n', p_request_id, e'\n', p_address, e'\n', p_source,
                        e'\n', p_read_only);
    done text;
begin
    if strpos(concat(p_request_id, p_address, p_source), e'\n') > 0 then  -- lines would read as other fields
        raise exception using errcode = '28000', message = 'not signed';
    end if;
    select own.inner_pad, own.outer_pad, api.inner_pad as api_inner_pad, api.outer_pad as api_outer_pad into keys
    from ctx.keys own left join ctx.keys api on api.kid = split_part(p_proof, ':', 1) and api.kid <> 'self'
    where own.kid = 'self';
    if ctx.proves(p_proof, said, keys.api_inner_pad, keys.api_outer_pad) is not true and not ctx.is_operator() then
        perform ctx.refuse_proof(p_proof, said, keys.api_inner_pad, keys.api_outer_pad);
    end if;
    done := set_config('app.organization_id', p_organization_id::text, true);
    select u.role, u.provider_id, u.patient_id, s.user_id is not null and s.ended_at is null as in_session into caller
    from app.users u join app.organizations o on o.organization_id = u.organization_id
    left join auth.sessions s on s.organization_id = u.organization_id and s.session_id = p_session_id and s.user_id = u.user_id
    where u.user_id = p_user_id and u.active and o.suspended_at is null;
    if (caller.in_session or p_session_id is null and found and ctx.is_operator()) is not true then
        raise exception using errcode = 'ENDED', message = 'no such user, or its session has ended';
    end if;
    if p_read_only then  -- first, since it is part of what is signed
        done := set_config('transaction_read_only', 'on', true);
    end if;
    done := ctx.assign(p_organization_id, p_user_id, p_session_id, caller.role, caller.provider_id, caller.patient_id, p_request_id,
                       p_address, p_source);
    done := set_config('app.mac', encode(ctx.mac(keys.inner_pad, keys.outer_pad, ctx.stated()), 'hex'), true);
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

-- Ends what a request may have left in its session: settings, the role, session locks, cursors, LISTEN, values of sequences. Prepared
-- statements stay; the API gives its own names that a statement can neither guess nor read. The API runs it as the last statement of a
-- request, in the same transaction, and again by itself where that fails; behind a pooler as the first of the next one.
create or replace function ctx.reset_session() returns void
language plpgsql as $$
declare
    done text := current_setting('synchronous_commit');
begin
    set constraints all immediate;  -- what was put off to the end of the transaction needs its context
    set session authorization default;  -- the role as well
    reset all;
    execute 'close all';  -- plpgsql has a `close` of its own
    unlisten *;
    discard sequences;  -- what lastval() and currval() would say
    perform pg_catalog.pg_advisory_unlock_all();
    done := set_config('synchronous_commit', done, true);  -- of this transaction: readings do not wait for the disk
end
$$;

-- What a column of organization_id is filled with; the policies check it.
create or replace function app.organization_id() returns uuid
language sql stable parallel safe
return ctx.variable('organization_id');

alter function ctx.enter owner to claims_usher;
alter function ctx.enter_job owner to claims_gate;
alter function ctx.turn_to owner to claims_gate;
alter function ctx.checked owner to claims_gate;
grant execute on all functions in schema ctx to claims_gate;
grant execute on function ctx.proves, ctx.is_signed, ctx.refuse_proof, ctx.assign, ctx.mac, ctx.stated, ctx.role_name, ctx.is_operator, ctx.variable, ctx.not_verified
    to claims_usher;
grant execute on function ctx.enter to claims_api;
grant execute on function ctx.reset_session to claims_api, claims_admin, claims_processor, claims_provider, claims_patient;
grant execute on function ctx.enter_job to claims_worker;
grant execute on function ctx.turn_to to claims_system;
grant execute on function ctx.checked, ctx.entered, ctx.verified, ctx.variable, ctx.not_verified, ctx.same, ctx.differs,
    ctx.equal(uuid, uuid), ctx.equal(text, text) to claims_admin, claims_processor, claims_provider, claims_patient, claims_system, claims_recorder, claims_sealer, claims_owner,
    claims_reporting;
