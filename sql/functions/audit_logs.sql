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
alter function app.audit_row owner to claims_recorder;

-- What changes no row and yet belongs into the trail: a login, a reading of one patient or claim, an export, a denial.
create or replace function app.record_act(
    p_action text, p_entity text, p_entity_id uuid default null, p_patient_id uuid default null, p_outcome text default 'success',
    p_after jsonb default null)
returns void
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    done text;
begin
    if p_action = 'read' then
        -- Nobody waits for the disk over what was only looked at; a crash may take the last second's readings with it, and no change.
        done := set_config('synchronous_commit', 'off', true);
    end if;
    insert into audit_logs (
        actor_user_id, actor_role, action, entity, entity_id, patient_id, after, request_id, address, outcome)
    values (
        nullif(current_setting('app.user_id', true), '')::uuid,
        coalesce(nullif(current_setting('app.role', true), ''), 'anonymous'),
        p_action, p_entity, p_entity_id, p_patient_id, p_after,
        nullif(current_setting('app.request_id', true), ''), nullif(current_setting('app.address', true), ''), p_outcome);
end
$$;
alter function app.record_act owner to claims_recorder;
grant execute on function app.record_act to claims_gate, claims_admin, claims_processor, claims_provider, claims_patient;

do $$
declare
    audited record;
begin
    for audited in select * from (values
        ('organizations', 'organization_id'), ('users', 'user_id'), ('providers', 'provider_id'), ('patients', 'patient_id'),
        ('care_relationships', 'patient_id'), ('claims', 'claim_id'), ('patient_status_events', 'event_id'),
        ('invitations', 'invitation_id')) as t (name, key)
    loop
        execute format('create or replace trigger %1$s_90_audit after insert or update or delete on app.%1$I '
                       'for each row execute function app.audit_row(%2$L)', audited.name, audited.key);
    end loop;
end
$$;
