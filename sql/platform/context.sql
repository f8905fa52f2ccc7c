-- The context of a request: the one way to act as a user. Any login can set a variable, so a variable alone proves nothing. The API signs
-- who is calling, context.begin_request verifies that and leaves its own signature over the variables, the backend and the transaction, and policies
-- compare with what context.required_id and context.verified_id give.
-- All functions run as claims_auth_definer, which may read users and organizations but, like every role, only inside the tenant that is set.
-- context.begin_request alone runs as claims_context_definer: it looks the caller up before there is a context to be signed, and the policies that ask for one
-- are not for its role.
-- Every request pays for this file. A function of one expression has its names bound when it is made and no search_path of its own, so
-- that it becomes part of what calls it; the rest is plpgsql, which assigns where a statement would do no more. context.verify_proof and context.establish
-- are called by definer functions alone and keep to their search_path: a plan that two paths share is made anew at every change.

-- HMAC-SHA256 (RFC 2104) with the key that these are the halves of.
create or replace function context.hmac_sha256(inner_pad bytea, outer_pad bytea, message bytea) returns bytea
language sql immutable
return sha256(outer_pad || sha256(inner_pad || message));

-- Everything that a context consists of, and where it holds: this backend, this transaction, and whether that may write.
create or replace function context.signature_input() returns bytea
language sql stable
return convert_to(concat(pg_backend_pid(), e'\n', extract(epoch from now()), e'\n', current_setting('transaction_read_only'), e'\n',
    current_setting('app.organization_id', true), e'\n', current_setting('app.user_id', true), e'\n',
    current_setting('app.session_id', true), e'\n', current_setting('app.role', true), e'\n', current_setting('app.provider_id', true), e'\n',
    current_setting('app.patient_id', true), e'\n', current_setting('app.request_id', true), e'\n', current_setting('app.address', true),
    e'\n', current_setting('app.source', true)), 'UTF8');

-- The database's role for the product's.
create or replace function context.database_role(product_role text) returns text
language sql immutable
return case product_role when 'claims_processor' then 'claims_processor' else 'claims_' || product_role end;

-- Whether the session may act without a signature: a superuser, or a login that an administrator made an operator. No other login may,
-- whatever its name and whatever it was granted.
create or replace function context.is_operator() returns boolean
language sql stable
return pg_has_role(session_user, 'claims_operator', 'member');

-- Called where a variable of the context holds no id, so that it is no context.
create or replace function context.raise_unverified() returns uuid
language plpgsql stable parallel safe as $$
begin
    raise exception using errcode = '28000', message = 'context not verified';
end
$$;

-- The id that a variable of the context names, null where it is empty. Nothing is verified: it chooses an index and a plan, for which its
-- value is needed when a statement is planned, and context.verified_id decides beside it. Raises where the variable holds no id; there is no
-- context without an organization. With a search_path of its own: else it would be planned anew at every change between the caller's
-- and those of definer functions. cost 1: a scan calls it once, but the planner charges a bitmap scan for it at every row.
create or replace function context.variable(p_what text) returns uuid
language plpgsql stable cost 1 set search_path = pg_catalog, pg_temp as $$
begin
    return case when p_what = 'organization_id' then current_setting('app.organization_id')
                else nullif(current_setting('app.' || p_what), '') end::uuid;
exception when invalid_text_representation or undefined_object then
    return context.raise_unverified();
end
$$;

-- Whether the variables are as they were signed, in this transaction, for this role: current_user of the statement that asks. The
-- functions of claims_auth_definer and claims_trigger_definer act within any context, those of claims_check_... within that of their role.
create or replace function context.is_valid(inner_pad bytea, outer_pad bytea, p_role name) returns boolean
language sql stable
return coalesce(
    current_setting('app.mac', true) = encode(context.hmac_sha256(inner_pad, outer_pad, context.signature_input()), 'hex')
    and (p_role in ('claims_auth_definer', 'claims_trigger_definer')
         or replace(p_role, 'claims_check_', 'claims_') = context.database_role(current_setting('app.role', true))),
    false);

-- The id in a session that has no signature: an operator's variable as it is; of a reporting login the organization that was noted for it,
-- where its variable, which comes from its role's settings, names the same. Every other session gets null, or an error if p_raises; so
-- does a reporting login that was granted another role of the product, which would change rows or read more of them.
create or replace function context.unsigned_id(p_what text, p_raises boolean) returns uuid
language plpgsql stable as $$
declare
    noted uuid;
begin
    if context.is_operator() then
        return context.variable(p_what);
    end if;
    select r.organization_id into noted from context.reporting_logins r
    where r.login = session_user and p_what = 'organization_id' and r.organization_id = context.variable('organization_id')
      and pg_has_role(session_user, 'claims_reporting', 'member')
      and not exists (
        select from pg_roles other
        where other.rolname ~ '^claims_' and other.rolname !~ '^claims_reporting(_personal)?$'
          and pg_has_role(session_user, other.oid, 'member'));
    return case when noted is null and p_raises then context.raise_unverified() else noted end;
end
$$;

-- The caller's organization_id, or another id of the context, null where it is empty. In a context that this file did not make, or made
-- for another role, it raises or is null, as p_raises says; of an operator the variable is taken as it is. Checked and read in one call: a
-- variable by itself may be another at every row. One body for both, since plpgsql prepares each expression once a transaction.
create or replace function context.read_id(p_role name, p_what text, p_raises boolean) returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    inside bytea;
    outside bytea;
begin
    select k.inner_pad, k.outer_pad into inside, outside from context.keys k where k.kid = 'self';
    if not context.is_valid(inside, outside, p_role) then
        return context.unsigned_id(p_what, p_raises);
    end if;
    return nullif(current_setting('app.' || p_what), '')::uuid;
end
$$;

-- What `<table>_entered` asks before a scan begins: raises.
create or replace function context.required_id(p_role name, p_what text default 'organization_id') returns uuid
language sql stable
return context.read_id(p_role, p_what, true);

-- What a policy compares each row with: null where context.required_id would raise. A variable that was changed after the scan began must not
-- raise here, since that would tell that the scan has found a row.
create or replace function context.verified_id(p_role name, p_what text default 'organization_id') returns uuid
language sql stable
return context.read_id(p_role, p_what, false);

-- uuid_eq and texteq of PostgreSQL, for less than an operator costs.
create or replace function context.equal(one uuid, other uuid) returns boolean
language internal immutable strict leakproof parallel safe cost 0.4 as 'uuid_eq';
create or replace function context.equal(one text, other text) returns boolean
language internal immutable strict leakproof parallel safe cost 0.4 as 'texteq';

-- Whether a row's id is the one that context.verified_id gave, and whether its text is not the excluded one. What decides about a row must be:
-- * no `=`, because the planner keeps one of several and the caller may add its own: an expression that changes while the statement runs
--   would take the place of ours;
-- * leakproof and cheaper than all that a caller may write, because the planner asks leakproof conditions in the order of their cost,
--   a policy's and the caller's alike, and a sub-select in one of the caller's runs only where it is reached: by an error, for example,
--   it tells that there is a row that fits. `=` costs 1, `= any (array[...])` costs 0.5. Conditions without any operator or function cost nothing
--   and still come first (sql/README.md).
-- Beside context.matches stands a comparison with the variable, which chooses the index and the plan. A `case`, because the planner takes it to
-- hold for half of the rows, and a function for a third.
create or replace function context.matches(of_row uuid, of_context uuid) returns boolean
language sql immutable
return case when context.equal(of_row, of_context) then true end;
create or replace function context.differs(of_row text, excluded text) returns boolean
language sql immutable
return case when context.equal(of_row, excluded) then null else true end;

-- Sets the variables of a context; what it returns means nothing.
create or replace function context.set_variables(
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

-- The variables of a context, signed. p_role is empty inside a tenant that no user has logged into yet: only claims_auth_definer's and
-- claims_trigger_definer's own statements are valid then. A function that assumes such a context for the API has `set app.mac = ''` among its
-- own settings, so that it ends with the function.
create or replace function context.establish(
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
    done := context.set_variables(p_organization_id, p_user_id, p_session_id, p_role, p_provider_id, p_patient_id, p_request_id, p_address, p_source);
    select k.inner_pad, k.outer_pad into inside, outside from context.keys k where k.kid = 'self';
    done := set_config('app.mac', encode(context.hmac_sha256(inside, outside, context.signature_input()), 'hex'), true);
end
$$;

-- Whether the key that these are the halves of made the proof's signature, of exactly p_said; null where there is no such key.
create or replace function context.is_signed(p_proof text, p_said text, inner_pad bytea, outer_pad bytea) returns boolean
language sql stable
return encode(context.hmac_sha256(inner_pad, outer_pad, convert_to(concat(
        p_said, e'\n', split_part(p_proof, ':', 2), e'\n', split_part(p_proof, ':', 3)), 'UTF8')), 'hex')
    = substr(p_proof, length(split_part(p_proof, ':', 1) || split_part(p_proof, ':', 2) || split_part(p_proof, ':', 3)) + 4);

-- The same, and whether the proof holds here and now.
-- p_proof: kid:expires:backend:signature; expires in seconds since 1970, the signature in hex over said, expires and backend, a line
-- each. Where backend is this one's process id the proof is good for a minute. 0: the API talks to a pooler and does not know where a
-- statement ends up, so the proof is good for five seconds anywhere; the clocks of API and database may differ by five more.
create or replace function context.is_valid_proof(p_proof text, p_said text, inner_pad bytea, outer_pad bytea) returns boolean
language sql stable
return context.is_signed(p_proof, p_said, inner_pad, outer_pad)
    and case split_part(p_proof, ':', 3)
        when pg_backend_pid()::text then split_part(p_proof, ':', 2)::bigint - extract(epoch from now()) between -5 and 65
        when '0' then split_part(p_proof, ':', 2)::bigint - extract(epoch from now()) between 0 and 10
    end;

-- Raises for a proof that context.is_valid_proof refused: CLOCK where only its time is wrong, so that the clocks of API and database differ; else 28000.
create or replace function context.raise_invalid_proof(p_proof text, p_said text, inner_pad bytea, outer_pad bytea) returns void
language plpgsql stable as $$
begin
    if context.is_signed(p_proof, p_said, inner_pad, outer_pad) and split_part(p_proof, ':', 3) in (pg_backend_pid()::text, '0') then
        raise exception using errcode = 'CLOCK', message = 'signed for another time';
    end if;
    raise exception using errcode = '28000', message = 'invalid signature';
end
$$;

-- Raises unless the API signed exactly p_said, or the session is an operator's.
create or replace function context.verify_proof(p_proof text, p_said text) returns void
language plpgsql stable as $$
declare
    inside bytea;
    outside bytea;
begin
    select k.inner_pad, k.outer_pad into inside, outside from context.keys k where k.kid = split_part(p_proof, ':', 1) and k.kid <> 'self';
    if context.is_valid_proof(p_proof, p_said, inside, outside) is not true and not context.is_operator() then
        perform context.raise_invalid_proof(p_proof, p_said, inside, outside);
    end if;
end
$$;

-- The same for a call of a function: its name and its arguments as text, each with its length in bytes before it, so that no two lists
-- read alike; null is `~`.
create or replace function context.verify_call(p_proof text, variadic p_said text[]) returns void
language plpgsql stable as $$
begin
    perform context.verify_proof(p_proof, (
        select string_agg(coalesce(octet_length(said.word) || ':' || said.word, '~'), '' order by said.place)
        from unnest(p_said) with ordinality as said (word, place)));
end
$$;

-- The caller's context for this transaction; returns the database role to become:
--   select set_config('role', context.begin_request(...), true)
-- Role, provider and patient are read here, so that a change holds from the next request on. The API must name a session that has
-- not ended; an operator who looks at the data as a user does needs none. Raises ENDED where the caller may not come in, 28000 or CLOCK
-- where the proof is refused, which is never a client's fault.
create or replace function context.begin_request(
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
        raise exception using errcode = '28000', message = 'invalid signature';
    end if;
    select own.inner_pad, own.outer_pad, api.inner_pad as api_inner_pad, api.outer_pad as api_outer_pad into keys
    from context.keys own left join context.keys api on api.kid = split_part(p_proof, ':', 1) and api.kid <> 'self'
    where own.kid = 'self';
    if context.is_valid_proof(p_proof, said, keys.api_inner_pad, keys.api_outer_pad) is not true and not context.is_operator() then
        perform context.raise_invalid_proof(p_proof, said, keys.api_inner_pad, keys.api_outer_pad);
    end if;
    done := set_config('app.organization_id', p_organization_id::text, true);
    select u.role, u.provider_id, u.patient_id, s.user_id is not null and s.ended_at is null as in_session into caller
    from app.users u join app.organizations o on o.organization_id = u.organization_id
    left join auth.sessions s on s.organization_id = u.organization_id and s.session_id = p_session_id and s.user_id = u.user_id
    where u.user_id = p_user_id and u.active and o.suspended_at is null;
    if (caller.in_session or p_session_id is null and found and context.is_operator()) is not true then
        raise exception using errcode = 'ENDED', message = 'unknown or inactive user, or session ended';
    end if;
    if p_read_only then  -- first, since it is part of what is signed
        done := set_config('transaction_read_only', 'on', true);
    end if;
    done := context.set_variables(p_organization_id, p_user_id, p_session_id, caller.role, caller.provider_id, caller.patient_id, p_request_id,
                       p_address, p_source);
    done := set_config('app.mac', encode(context.hmac_sha256(keys.inner_pad, keys.outer_pad, context.signature_input()), 'hex'), true);
    return context.database_role(caller.role);
end
$$;

-- The context of a job: inside the tenant of an event that stands there, as claims_system.
create or replace function context.begin_job(p_organization_id uuid, p_event_id uuid) returns text
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
begin
    perform context.establish(p_organization_id, p_role => 'system');
    perform context.switch_event(p_event_id);  -- raises where there is no such event, and the variables go with the transaction
    return 'claims_system';
end
$$;

-- The same for another event of the same organization, within a job's context.
create or replace function context.switch_event(p_event_id uuid) returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
begin
    perform context.required_id('claims_system');
    if not exists (select from patient_status_events where event_id = p_event_id) then
        raise exception using errcode = '28000', message = 'no such event';
    end if;
    perform context.establish(organization_id(), p_role => 'system', p_request_id => p_event_id::text, p_source => 'job');
end
$$;

-- Ends what a request may have left in its session: settings, the role, session locks, cursors, LISTEN, values of sequences. Prepared
-- statements stay; the API gives its own names that a statement can neither guess nor read. The API runs it as the last statement of a
-- request, in the same transaction, and again by itself where that fails; behind a pooler as the first of the next one.
create or replace function context.reset_session() returns void
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
return context.variable('organization_id');

alter function context.begin_request owner to claims_context_definer;
alter function context.begin_job owner to claims_auth_definer;
alter function context.switch_event owner to claims_auth_definer;
alter function context.read_id owner to claims_auth_definer;
grant execute on all functions in schema context to claims_auth_definer;
grant execute on function context.is_valid_proof, context.is_signed, context.raise_invalid_proof, context.set_variables, context.hmac_sha256, context.signature_input, context.database_role, context.is_operator, context.variable, context.raise_unverified
    to claims_context_definer;
grant execute on function context.begin_request to claims_api;
grant execute on function context.reset_session to claims_api, claims_admin, claims_processor, claims_provider, claims_patient;
grant execute on function context.begin_job to claims_worker;
grant execute on function context.switch_event to claims_system;
grant execute on function context.read_id, context.required_id, context.verified_id, context.variable, context.raise_unverified, context.matches, context.differs,
    context.equal(uuid, uuid), context.equal(text, text) to claims_admin, claims_processor, claims_provider, claims_patient, claims_system, claims_trigger_definer, claims_audit_sealer, claims_owner,
    claims_reporting;
