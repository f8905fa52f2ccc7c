-- Trigger: adds the care relationship of a new claim's provider and patient, or of a new patient and the provider who registered it.
create or replace function app.add_care_relationship() returns trigger
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    treating_provider uuid := coalesce((to_jsonb(new) ->> 'provider_id')::uuid, context.variable('provider_id'));
begin
    if treating_provider is not null then
        insert into care_relationships (organization_id, provider_id, patient_id)
        values (new.organization_id, treating_provider, new.patient_id)
        on conflict do nothing;
    end if;
    return null;
end
$$;
alter function app.add_care_relationship owner to claims_trigger_definer;
