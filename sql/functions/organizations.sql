-- Rules of organizations, and their JSON.

-- Trigger: rejects an unknown time zone.
create or replace function app.check_organization() returns trigger
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
begin
    if not exists (select from pg_timezone_names where name = new.timezone) then
        perform raise_invalid('{"settings.timezone": ["Is not an IANA time zone"]}');
    end if;
    return new;
end
$$;

-- The organization's settings as JSON; null for a role that was not granted them.
create or replace function app.readable_settings(p_organization_id uuid) returns json
language plpgsql stable set search_path = app, pg_catalog, pg_temp as $$
begin
    if has_column_privilege('organizations', 'timezone', 'select') then
        return (select settings_json(o) from organizations o where o.organization_id = p_organization_id);
    end if;
    return null;
end
$$;
grant execute on function app.readable_settings to claims_admin, claims_processor, claims_provider, claims_patient;

-- Trigger: keeps auth.organization_lookup, where a login finds an organization by its slug.
create or replace function app.add_organization_lookup() returns trigger
language plpgsql security definer set search_path = auth, pg_catalog, pg_temp as $$
begin
    insert into organization_lookup (organization_id, slug) values (new.organization_id, new.slug)
    on conflict (organization_id) do update set slug = excluded.slug;
    return null;
end
$$;
alter function app.add_organization_lookup owner to claims_trigger_definer;
