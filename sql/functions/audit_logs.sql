-- The three functions that write the trail. With each entry goes a marker for the sealer (audit_seals.sql), a row of a table without an
-- index, so that no writer waits for another: in the same statement, which costs half of what another one would.

-- One row in audit_logs for every row that is made, changed or removed, with the changed columns before and after.
create or replace function app.audit_row() returns trigger
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    was jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
    is_now jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
    stands jsonb := coalesce(is_now, was);
    outside boolean := coalesce(current_setting('app.organization_id', true), '') = '';
begin
    if outside then  -- an operator's own statement: recorded in the tenant of the row
        perform set_config('app.organization_id', stands ->> 'organization_id', true);
    end if;
    -- Hashes of secrets are no business of whoever reads the trail.
    was := was - 'token_hash';
    is_now := is_now - 'token_hash';
    if tg_op = 'UPDATE' then
        select jsonb_object_agg(key, value), jsonb_object_agg(key, is_now -> key) into was, is_now
        from jsonb_each(was) where value is distinct from is_now -> key;
        if was is null then  -- written, and yet nothing changed
            return null;
        end if;
    end if;
    with marker as (insert into auth.unsealed_entries (organization_id) values ((stands ->> 'organization_id')::uuid))
    insert into audit_logs (
        organization_id, actor_user_id, actor_role, action, entity, entity_id, patient_id, before, after, request_id, address)
    values (
        (stands ->> 'organization_id')::uuid, nullif(current_setting('app.user_id', true), '')::uuid,
        coalesce(nullif(current_setting('app.role', true), ''), session_user),
        case tg_op when 'INSERT' then 'create' when 'UPDATE' then 'update' else 'delete' end,
        tg_table_name, (stands ->> tg_argv[0])::uuid, (stands ->> 'patient_id')::uuid, was, is_now,
        nullif(current_setting('app.request_id', true), ''), nullif(current_setting('app.address', true), ''));
    if outside then
        perform set_config('app.organization_id', '', true);
    end if;
    return null;
end
$$;
alter function app.audit_row owner to claims_trigger_definer;

-- An entry for an act that changes no row: a login, a reading, an export, a denial. For definer functions; their callers choose some of
-- the arguments and clients the id and the address of a request, so each is bounded: in characters, p_after in bytes. Here and not by
-- constraints of the table, which are read anew for every row. The list of actions is one.
create or replace function app.write_audit_entry(
    p_action text, p_entity text, p_entity_id uuid default null, p_patient_id uuid default null, p_outcome text default 'success',
    p_after jsonb default null)
returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    done text;
begin
    if p_action in ('create', 'update', 'delete') or octet_length(p_after::text) > 8192 or length(p_entity) > 63 or length(p_outcome) > 200
        or length(current_setting('app.request_id', true)) > 128 or length(current_setting('app.address', true)) > 64 then
        raise exception using errcode = '22023', message = 'not an act, or too long for an entry of the trail';
    end if;
    if p_action = 'read' then
        -- No caller waits for the disk for a reading; a crash may lose the last second's readings, and no change.
        done := set_config('synchronous_commit', 'off', true);
    end if;
    with marker as (insert into auth.unsealed_entries (organization_id) values (current_setting('app.organization_id')::uuid))
    insert into audit_logs (
        actor_user_id, actor_role, action, entity, entity_id, patient_id, after, request_id, address, outcome)
    values (
        nullif(current_setting('app.user_id', true), '')::uuid,
        coalesce(nullif(current_setting('app.role', true), ''), 'anonymous'),
        p_action, p_entity, p_entity_id, p_patient_id, p_after,
        nullif(current_setting('app.request_id', true), ''), nullif(current_setting('app.address', true), ''), p_outcome);
end
$$;
alter function app.write_audit_entry owner to claims_trigger_definer;
grant execute on function app.write_audit_entry to claims_auth_definer;

-- An entry for what the caller itself reads, exports or logs into. Raises 42501 for anything else, and where the claim or the patient
-- is not one of the caller's organization. Both are looked up by key, as claims_trigger_definer: the policies of the caller are not asked
-- again, because each statement of the API takes the ids from a row that the caller sees. Every reading pays for this, so it does not
-- call app.write_audit_entry, and claims_trigger_definer needs no second check of the context to find a claim: the policies of audit_logs check it,
-- because the entry is added before the claim is looked up.
create or replace function app.record_access(
    p_action text, p_entity text, p_entity_id uuid default null, p_patient_id uuid default null)
returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    done text;
    allowed boolean;
begin
    if p_action = 'read' then
        done := set_config('synchronous_commit', 'off', true);
    end if;
    with marker as (insert into auth.unsealed_entries (organization_id) values (current_setting('app.organization_id')::uuid))
    insert into audit_logs (actor_user_id, actor_role, action, entity, entity_id, patient_id, request_id, address)
    values (
        nullif(current_setting('app.user_id', true), '')::uuid, coalesce(current_setting('app.role', true), ''),
        p_action, p_entity, p_entity_id, p_patient_id,
        nullif(current_setting('app.request_id', true), ''), nullif(current_setting('app.address', true), ''));
    if p_action = 'read' and p_entity = 'claims' then
        -- By its key alone: with the patient as well an index of all claims of the patient serves, too.
        select c.patient_id = p_patient_id into allowed from claims c where c.claim_id = p_entity_id;
    elsif p_action = 'read' and p_entity = 'patients' then
        perform from patients p where p.patient_id = p_patient_id and p.patient_id = p_entity_id;
        allowed := found;
    elsif p_action = 'login' and p_entity = 'users' then
        allowed := p_entity_id = current_setting('app.user_id')::uuid and p_patient_id is null;
    else
        allowed := (p_action, p_entity) in (('read', 'audit_logs'), ('export', 'claims')) and p_entity_id is null and p_patient_id is null;
    end if;
    if allowed is not true then
        raise exception using errcode = '42501', message = 'not an act of the caller';
    end if;
end
$$;
alter function app.record_access owner to claims_trigger_definer;
grant execute on function app.record_access to claims_admin, claims_processor, claims_provider, claims_patient;
