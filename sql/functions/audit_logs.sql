-- The three functions that write the audit log. Each also inserts a marker for the sealer (audit_seals.sql) into a table without indexes,
-- so that no writer waits for another. Entry and marker are one statement, because a second statement would double the cost of the
-- marker.

-- Trigger: adds an entry for every inserted, updated or deleted row, with the changed columns before and after. Its argument names the
-- column of the entry's entity_id.
create or replace function app.audit_row() returns trigger
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    old_values jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
    new_values jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
    row_values jsonb := coalesce(new_values, old_values);
    no_context boolean := coalesce(current_setting('app.organization_id', true), '') = '';
begin
    if no_context then  -- an operator's statement: use the organization of the row
        perform set_config('app.organization_id', row_values ->> 'organization_id', true);
    end if;
    -- Readers of the audit log must not see hashes of secrets.
    old_values := old_values - 'token_hash';
    new_values := new_values - 'token_hash';
    if tg_op = 'UPDATE' then
        select jsonb_object_agg(key, value), jsonb_object_agg(key, new_values -> key) into old_values, new_values
        from jsonb_each(old_values) where value is distinct from new_values -> key;
        if old_values is null then  -- an update that changed no column
            return null;
        end if;
    end if;
    with marker as (insert into auth.unsealed_entries (organization_id) values ((row_values ->> 'organization_id')::uuid))
    insert into audit_logs (
        organization_id, actor_user_id, actor_role, action, entity, entity_id, patient_id, before, after, request_id, address)
    values (
        (row_values ->> 'organization_id')::uuid, nullif(current_setting('app.user_id', true), '')::uuid,
        coalesce(nullif(current_setting('app.role', true), ''), session_user),
        case tg_op when 'INSERT' then 'create' when 'UPDATE' then 'update' else 'delete' end,
        tg_table_name, (row_values ->> tg_argv[0])::uuid, (row_values ->> 'patient_id')::uuid, old_values, new_values,
        nullif(current_setting('app.request_id', true), ''), nullif(current_setting('app.address', true), ''));
    if no_context then
        perform set_config('app.organization_id', '', true);
    end if;
    return null;
end
$$;
alter function app.audit_row owner to claims_trigger_definer;

-- Adds an entry for an action that changes no row: a login, a read, an export, a denial. For definer functions only. Their callers choose
-- some arguments, and clients choose the id and the address of a request, so the size of each is limited here. Constraints of the table
-- would cost more, because PostgreSQL loads them again for each insert. Only the constraint for the list of actions is on the table.
create or replace function app.write_audit_entry(
    p_action text, p_entity text, p_entity_id uuid default null, p_patient_id uuid default null, p_outcome text default 'success',
    p_after jsonb default null)
returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    unused text;
begin
    if p_action in ('create', 'update', 'delete') or octet_length(p_after::text) > 8192 or length(p_entity) > 63 or length(p_outcome) > 200
        or length(current_setting('app.request_id', true)) > 128 or length(current_setting('app.address', true)) > 64 then
        raise exception using errcode = '22023', message = 'not an action without a row, or too long for an audit entry';
    end if;
    if p_action = 'read' then
        -- Entries of reads are committed asynchronously: a crash may lose those of the last second, but no entry of a change.
        unused := set_config('synchronous_commit', 'off', true);
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

-- Adds an entry for a read, an export or a login of the caller. Raises 42501 for any other action, and if the claim or patient is not of
-- the caller's organization. Every read of one claim or patient runs this, so it avoids work:
-- * The claim or patient is looked up by its key, as claims_trigger_definer. The caller's policies are not evaluated again, because each
--   statement of the API takes the ids from a row that the caller can see.
-- * The entry is inserted first. The policies of audit_logs verify the context then, and the lookup needs no second verification.
-- * It does not call app.write_audit_entry.
create or replace function app.record_access(
    p_action text, p_entity text, p_entity_id uuid default null, p_patient_id uuid default null)
returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    unused text;
    allowed boolean;
begin
    if p_action = 'read' then
        unused := set_config('synchronous_commit', 'off', true);
    end if;
    with marker as (insert into auth.unsealed_entries (organization_id) values (current_setting('app.organization_id')::uuid))
    insert into audit_logs (actor_user_id, actor_role, action, entity, entity_id, patient_id, request_id, address)
    values (
        nullif(current_setting('app.user_id', true), '')::uuid, coalesce(current_setting('app.role', true), ''),
        p_action, p_entity, p_entity_id, p_patient_id,
        nullif(current_setting('app.request_id', true), ''), nullif(current_setting('app.address', true), ''));
    if p_action = 'read' and p_entity = 'claims' then
        -- By the key alone: with a condition on the patient the planner might use the index of all the patient's claims.
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
        raise exception using errcode = '42501', message = 'the caller can''t record this access';
    end if;
end
$$;
alter function app.record_access owner to claims_trigger_definer;
grant execute on function app.record_access to claims_admin, claims_processor, claims_provider, claims_patient;
