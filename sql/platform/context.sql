-- The request context identifies the user of each statement to the policies, in a way that injected SQL can't forge.
--
-- Problem. All users share the login claims_api, so current_user does not identify a user. A request therefore puts the user's ids into
-- nine settings (app.organization_id, app.user_id, ...: context.set_variables), and policies compare rows with them. But every session
-- may run `set app.user_id = '...'`. Without more, SQL injected into a request could act as any user.
--
-- Solution. Two signatures, both HMAC-SHA256 with keys from the table context.keys:
-- 1. The proof is the API's. It signs the ids of the user, the session and the request with a key that is derived from TOKEN_KEYS.
--    context.begin_request verifies it, so only the API can begin a context.
-- 2. The MAC (app.mac) is the database's. context.begin_request signs all nine settings, the backend, the transaction and whether it may
--    write, with the key `self`, which no login can read. Policies verify it (context.read_id). If a setting was changed afterwards, or
--    all were copied from another transaction, the MAC does not match and the statement fails.
--
-- A request is one transaction:
--   select set_config('role', context.begin_request(...), true);  -- verifies the proof, signs the context; becomes claims_provider
--   select ... from app.claims;                                   -- the policies verify the MAC, before each scan
--   select context.reset_session();
--
-- Policies read an id of the context in three ways, because no single function can have all of these properties:
--
--   function             verified  if the context is invalid  known at planning  used for
--   context.variable     no        returns the setting        yes                choosing an index and estimating rows
--   context.required_id  yes       raises 28000               no                 failing before a scan reads its first row
--   context.verified_id  yes       returns null               no                 the decision about each row, by context.matches
--
-- On a tenant table these are the restrictive policies <table>_tenant, <table>_requires_context and <table>_context (schema_admin.isolate).
-- A row must pass them all, so a forged setting can lead to a slow plan, but can't make a row visible. A policy for a user's own rows uses
-- context.variable and context.matches in the same way (sql/policies/claims.sql).
--
-- Roles. The definer functions here run as claims_auth_definer. It may read users and organizations but, like every role, only those of
-- app.organization_id. context.begin_request alone runs as claims_context_definer: it reads the user before there is a context to verify,
-- and the policies that require a context are not for that role. Superusers and members of claims_operator need no signature.
--
-- Speed. Every request runs this file. Functions of one expression have an SQL-standard body and no search_path of their own, so that
-- PostgreSQL can inline them. The others are PL/pgSQL, and assign a value where a statement would do no more. context.verify_proof and
-- context.establish are called by definer functions only and inherit their search_path: PostgreSQL would replan them at each change
-- between two paths.

-- HMAC-SHA256 (RFC 2104). inner_pad and outer_pad: the two blocks that the key is expanded to, as context.keys stores them.
create or replace function context.hmac_sha256(inner_pad bytea, outer_pad bytea, message bytea) returns bytea
language sql immutable
return sha256(outer_pad || sha256(inner_pad || message));

-- The input of the MAC: all settings of the context, the backend, the transaction (by its start time) and whether it may write.
create or replace function context.signature_input() returns bytea
language sql stable
return convert_to(concat(pg_backend_pid(), e'\n', extract(epoch from now()), e'\n', current_setting('transaction_read_only'), e'\n',
    current_setting('app.organization_id', true), e'\n', current_setting('app.user_id', true), e'\n',
    current_setting('app.session_id', true), e'\n', current_setting('app.role', true), e'\n',
    current_setting('app.provider_id', true), e'\n', current_setting('app.patient_id', true), e'\n',
    current_setting('app.request_id', true), e'\n', current_setting('app.address', true), e'\n',
    current_setting('app.source', true)), 'UTF8');

-- The database role of a role of the product: admin is claims_admin.
create or replace function context.database_role(product_role text) returns text
language sql immutable
return case product_role when 'claims_processor' then 'claims_processor' else 'claims_' || product_role end;

-- True if the session needs no signature: its login is a superuser or a member of claims_operator. No other grant has this effect, and no
-- name of a login.
create or replace function context.is_operator() returns boolean
language sql stable
return pg_has_role(session_user, 'claims_operator', 'member');

-- Raises 28000. A function, because an expression can't raise; its result type lets it be used where an id is expected.
create or replace function context.raise_unverified() returns uuid
language plpgsql stable parallel safe as $$
begin
    raise exception using errcode = '28000', message = 'context not verified';
end
$$;

-- An id of the context as the setting has it, null if it is empty. It is not verified. Policies compare a column with it, because its value
-- is known at planning and leads to the right index; context.matches beside it makes the security decision.
-- Raises 28000 if the setting does not exist or is no id, and if there is no organization: every context has one.
-- It has a search_path of its own. Otherwise PostgreSQL would replan it at each change between the paths of callers and definer functions.
-- cost 1: a scan calls it once, but the planner assumes that a bitmap scan calls it for every row.
create or replace function context.variable(p_what text) returns uuid
language plpgsql stable cost 1 set search_path = pg_catalog, pg_temp as $$
begin
    return case when p_what = 'organization_id' then current_setting('app.organization_id')
                else nullif(current_setting('app.' || p_what), '') end::uuid;
exception when invalid_text_representation or undefined_object then
    return context.raise_unverified();
end
$$;

-- True if app.mac matches the settings, in this transaction, and the context is p_role's (current_user of the statement).
-- Functions of claims_auth_definer and claims_trigger_definer may act in any context, those of claims_check_<role> in a context of <role>.
create or replace function context.is_valid(inner_pad bytea, outer_pad bytea, p_role name) returns boolean
language sql stable
return coalesce(
    current_setting('app.mac', true) = encode(context.hmac_sha256(inner_pad, outer_pad, context.signature_input()), 'hex')
    and (p_role in ('claims_auth_definer', 'claims_trigger_definer')
         or replace(p_role, 'claims_check_', 'claims_') = context.database_role(current_setting('app.role', true))),
    false);

-- An id of the context in a session whose settings have no valid MAC:
-- * for an operator, the setting as it is;
-- * for a reporting login, the organization in context.reporting_logins, if the login's setting (from alter role) names the same one;
-- * else null, or 28000 if p_raises.
-- A reporting login that was also granted another role of the product gets nothing, because that role could change rows or read more.
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

-- A verified id of the context, null if it is empty. If the context was not created by this file, or is another role's, it raises 28000
-- (p_raises) or returns null. Verification and read are one call, because injected SQL could change the setting between two calls.
-- context.required_id and context.verified_id share it, because PL/pgSQL prepares each expression of a function once a transaction.
create or replace function context.read_id(p_role name, p_what text, p_raises boolean) returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    inner_pad bytea;
    outer_pad bytea;
begin
    select k.inner_pad, k.outer_pad into inner_pad, outer_pad from context.keys k where k.kid = 'self';
    if not context.is_valid(inner_pad, outer_pad, p_role) then
        return context.unsigned_id(p_what, p_raises);
    end if;
    return nullif(current_setting('app.' || p_what), '')::uuid;
end
$$;

-- The verified id, else 28000. The policy <table>_requires_context uses it in `organization_id = (select context.required_id(...))`. The
-- planner evaluates that sub-select once a statement, before the scan (One-Time Filter), so the error does not depend on any row. Checks of
-- new rows (`with check`) use it as well.
create or replace function context.required_id(p_role name, p_what text default 'organization_id') returns uuid
language sql stable
return context.read_id(p_role, p_what, true);

-- The verified id, else null. Policies compare existing rows with it. It must not raise: if the settings were changed after the scan began,
-- an error would reveal that the scan had found a row.
create or replace function context.verified_id(p_role name, p_what text default 'organization_id') returns uuid
language sql stable
return context.read_id(p_role, p_what, false);

-- PostgreSQL's uuid_eq and texteq, with a cost below that of any operator: context.matches needs that.
create or replace function context.equal(one uuid, other uuid) returns boolean
language internal immutable strict leakproof parallel safe cost 0.4 as 'uuid_eq';
create or replace function context.equal(one text, other text) returns boolean
language internal immutable strict leakproof parallel safe cost 0.4 as 'texteq';

-- context.matches: true if a row's id is the verified one, else null. context.differs: true if a row's text is not the excluded one.
-- A policy uses context.matches beside the comparison with context.variable:
--   organization_id = context.variable('organization_id')                                       -- for the planner: index, estimate
--   context.matches(organization_id, (select context.verified_id(current_user)))                -- the security decision
-- The decision can't be an `=`, for two reasons:
-- * The planner keeps only one of several equalities on a column, and drops the others as redundant. Injected SQL can add an equality of
--   its own, with an expression whose value changes while the statement runs. That one could replace the policy's.
-- * The planner evaluates leakproof conditions in the order of their cost, those of the statement together with those of policies. A
--   cheaper condition of the statement would run on hidden rows, and a sub-select in it could reveal them, by an error for example.
--   So the policy's must be leakproof and the cheapest: context.equal costs 0.4, while `=` costs 1 and `= any (array[...])` 0.5.
--   Conditions without any operator or function cost nothing and still run first (sql/README.md describes what that reveals).
-- `case`, because the planner assumes that a `case` is true for half of the rows, and a function for a third.
create or replace function context.matches(of_row uuid, of_context uuid) returns boolean
language sql immutable
return case when context.equal(of_row, of_context) then true end;
create or replace function context.differs(of_row text, excluded text) returns boolean
language sql immutable
return case when context.equal(of_row, excluded) then null else true end;

-- Sets the nine settings of a context, until the end of the transaction. The result has no meaning.
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

-- Sets and signs a context, without a proof: for definer functions. An empty p_role means "inside this organization, before login": only
-- statements of claims_auth_definer and claims_trigger_definer are valid then. A function that calls this for the API must declare
-- `set app.mac = ''`, so that the context ends when the function returns.
create or replace function context.establish(
    p_organization_id uuid, p_user_id uuid default null, p_session_id uuid default null, p_role text default '',
    p_provider_id uuid default null, p_patient_id uuid default null, p_request_id text default '', p_address text default '',
    p_source text default '')
returns void
language plpgsql as $$
declare
    inner_pad bytea;
    outer_pad bytea;
    unused text;
begin
    unused := context.set_variables(
        p_organization_id, p_user_id, p_session_id, p_role, p_provider_id, p_patient_id, p_request_id, p_address, p_source);
    select k.inner_pad, k.outer_pad into inner_pad, outer_pad from context.keys k where k.kid = 'self';
    unused := set_config('app.mac', encode(context.hmac_sha256(inner_pad, outer_pad, context.signature_input()), 'hex'), true);
end
$$;

-- True if the proof's signature is of exactly p_message and by this key (inner_pad, outer_pad); null if there is no such key. Ignores time
-- and backend. p_proof is `kid:expires:backend:signature`: expires in seconds since 1970, the backend's process id, and the signature in
-- hex over message, expires and backend, each on a line of its own.
create or replace function context.is_signed(p_proof text, p_message text, inner_pad bytea, outer_pad bytea) returns boolean
language sql stable
return encode(context.hmac_sha256(inner_pad, outer_pad, convert_to(concat(
        p_message, e'\n', split_part(p_proof, ':', 2), e'\n', split_part(p_proof, ':', 3)), 'UTF8')), 'hex')
    = substr(p_proof, length(split_part(p_proof, ':', 1) || split_part(p_proof, ':', 2) || split_part(p_proof, ':', 3)) + 4);

-- True if the proof is signed and valid on this backend now. A proof for this backend's process id is valid for one minute. Backend 0 means
-- that the API uses a pooler and can't know the backend: such a proof is valid for five seconds on any backend. Both bounds allow for
-- clocks of API and database that differ by five seconds.
create or replace function context.is_valid_proof(p_proof text, p_message text, inner_pad bytea, outer_pad bytea) returns boolean
language sql stable
return context.is_signed(p_proof, p_message, inner_pad, outer_pad)
    and case split_part(p_proof, ':', 3)
        when pg_backend_pid()::text then split_part(p_proof, ':', 2)::bigint - extract(epoch from now()) between -5 and 65
        when '0' then split_part(p_proof, ':', 2)::bigint - extract(epoch from now()) between 0 and 10
    end;

-- Raises for a proof that context.is_valid_proof rejected: CLOCK if only its time is wrong, because the clocks of API and database differ;
-- else 28000.
create or replace function context.raise_invalid_proof(p_proof text, p_message text, inner_pad bytea, outer_pad bytea) returns void
language plpgsql stable as $$
begin
    if context.is_signed(p_proof, p_message, inner_pad, outer_pad) and split_part(p_proof, ':', 3) in (pg_backend_pid()::text, '0') then
        raise exception using errcode = 'CLOCK', message = 'signature expired or not yet valid';
    end if;
    raise exception using errcode = '28000', message = 'invalid signature';
end
$$;

-- Raises unless the API signed exactly p_message, or the session is an operator's.
create or replace function context.verify_proof(p_proof text, p_message text) returns void
language plpgsql stable as $$
declare
    inner_pad bytea;
    outer_pad bytea;
begin
    select k.inner_pad, k.outer_pad into inner_pad, outer_pad
    from context.keys k where k.kid = split_part(p_proof, ':', 1) and k.kid <> 'self';
    if context.is_valid_proof(p_proof, p_message, inner_pad, outer_pad) is not true and not context.is_operator() then
        perform context.raise_invalid_proof(p_proof, p_message, inner_pad, outer_pad);
    end if;
end
$$;

-- Raises unless the API signed this call of a function, for the functions of the schema auth, which run before there is a context. Without
-- it, injected SQL could open a session for any user or read any password hash.
-- p_fields: the function's name and its arguments as text. The message has each with its length in bytes before it, so that no two lists
-- give the same message; null is `~`.
create or replace function context.verify_call(p_proof text, variadic p_fields text[]) returns void
language plpgsql stable as $$
begin
    perform context.verify_proof(p_proof, (
        select string_agg(coalesce(octet_length(field.value) || ':' || field.value, '~'), '' order by field.place)
        from unnest(p_fields) with ordinality as field (value, place)));
end
$$;

-- Begins the context of a request, for this transaction. Returns the database role that the API then becomes:
--   select set_config('role', context.begin_request(...), true)
-- It verifies the proof, reads the user inside the organization, sets the settings and signs them. Role, provider and patient come from the
-- table users, so a change applies to the user's next request. The API must name a session that has not ended; an operator who acts as a
-- user needs none. p_read_only makes the transaction read-only.
-- Raises ENDED if the user is unknown or inactive, the organization is suspended or the session has ended. Raises 28000 or CLOCK for an
-- invalid proof: that is a fault of the installation, never of a client.
create or replace function context.begin_request(
    p_organization_id uuid, p_user_id uuid, p_session_id uuid, p_request_id text, p_address text, p_source text,
    p_read_only boolean, p_proof text default null)
returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    keys record;
    caller record;
    proof_message text := concat(p_organization_id, e'\n', p_user_id, e'\n', p_session_id, e'\n', p_request_id, e'\n', p_address, e'\n',
                                 p_source, e'\n', p_read_only);
    unused text;
begin
    if strpos(concat(p_request_id, p_address, p_source), e'\n') > 0 then  -- a line break would shift the fields of the message
        raise exception using errcode = '28000', message = 'invalid signature: line break in a field';
    end if;
    select own.inner_pad, own.outer_pad, api.inner_pad as api_inner_pad, api.outer_pad as api_outer_pad into keys
    from context.keys own left join context.keys api on api.kid = split_part(p_proof, ':', 1) and api.kid <> 'self'
    where own.kid = 'self';
    if context.is_valid_proof(p_proof, proof_message, keys.api_inner_pad, keys.api_outer_pad) is not true
       and not context.is_operator() then
        perform context.raise_invalid_proof(p_proof, proof_message, keys.api_inner_pad, keys.api_outer_pad);
    end if;
    unused := set_config('app.organization_id', p_organization_id::text, true);
    select u.role, u.provider_id, u.patient_id, s.user_id is not null and s.ended_at is null as in_session into caller
    from app.users u join app.organizations o on o.organization_id = u.organization_id
    left join auth.sessions s on s.organization_id = u.organization_id and s.session_id = p_session_id and s.user_id = u.user_id
    where u.user_id = p_user_id and u.active and o.suspended_at is null;
    if (caller.in_session or p_session_id is null and found and context.is_operator()) is not true then
        raise exception using errcode = 'ENDED', message = 'unknown or inactive user, or session ended';
    end if;
    if p_read_only then  -- before the MAC, which covers it
        unused := set_config('transaction_read_only', 'on', true);
    end if;
    unused := context.set_variables(p_organization_id, p_user_id, p_session_id, caller.role, caller.provider_id, caller.patient_id,
                                    p_request_id, p_address, p_source);
    unused := set_config('app.mac', encode(context.hmac_sha256(keys.inner_pad, keys.outer_pad, context.signature_input()), 'hex'), true);
    return context.database_role(caller.role);
end
$$;

-- Begins the context of a job, as claims_system, in the organization of an existing event. It needs no proof, because only claims_worker
-- may call it.
create or replace function context.begin_job(p_organization_id uuid, p_event_id uuid) returns text
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
begin
    perform context.establish(p_organization_id, p_role => 'system');
    perform context.switch_event(p_event_id);  -- raises for an unknown event, and the rollback removes the settings
    return 'claims_system';
end
$$;

-- Changes the context of a job to another event of the same organization. Raises 28000 if the organization has no such event.
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

-- Removes the state that a request may have left in its session: settings, role, session locks, cursors, LISTEN and values of sequences.
-- Prepared statements are kept; their names are random, so that a statement can neither guess nor read them. The API runs this as the last
-- statement of a request, in the same transaction, and once more alone if that transaction fails. Behind a pooler, it is the first
-- statement of the next request.
create or replace function context.reset_session() returns void
language plpgsql as $$
declare
    commit_mode text := current_setting('synchronous_commit');
begin
    set constraints all immediate;  -- deferred constraints need the context
    set session authorization default;  -- this also resets the role
    reset all;
    execute 'close all';  -- `close` alone is a statement of PL/pgSQL
    unlisten *;
    discard sequences;  -- values of lastval() and currval()
    perform pg_catalog.pg_advisory_unlock_all();
    commit_mode := set_config('synchronous_commit', commit_mode, true);  -- for this transaction: reads do not wait for the disk
end
$$;

-- The default of each organization_id column. It is not verified; the policies check the column.
create or replace function app.organization_id() returns uuid
language sql stable parallel safe
return context.variable('organization_id');

alter function context.begin_request owner to claims_context_definer;
alter function context.begin_job owner to claims_auth_definer;
alter function context.switch_event owner to claims_auth_definer;
alter function context.read_id owner to claims_auth_definer;
grant execute on all functions in schema context to claims_auth_definer;
grant execute on function context.is_valid_proof, context.is_signed, context.raise_invalid_proof, context.set_variables,
    context.hmac_sha256, context.signature_input, context.database_role, context.is_operator, context.variable, context.raise_unverified
    to claims_context_definer;
grant execute on function context.begin_request to claims_api;
grant execute on function context.reset_session to claims_api, claims_admin, claims_processor, claims_provider, claims_patient;
grant execute on function context.begin_job to claims_worker;
grant execute on function context.switch_event to claims_system;
grant execute on function context.read_id, context.required_id, context.verified_id, context.variable, context.raise_unverified,
    context.matches, context.differs, context.equal(uuid, uuid), context.equal(text, text)
    to claims_admin, claims_processor, claims_provider, claims_patient, claims_system, claims_trigger_definer, claims_audit_sealer,
    claims_owner, claims_reporting;
