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

-- The JSON of an organization; settings are null for a role without a grant on them.
create or replace function app.organization_json(p_id uuid, p_slug text, p_name text) returns json
language plpgsql stable set search_path = app, pg_catalog, pg_temp as $$
declare
    settings json;
begin
    if has_column_privilege('organizations', 'timezone', 'select') then
        select settings_json(o) into settings from organizations o where o.organization_id = p_id;
    end if;
    return json_build_object('id', p_id, 'slug', p_slug, 'name', p_name, 'settings', settings);
end
$$;
grant execute on function app.organization_json to claims_admin, claims_processor, claims_provider, claims_patient;

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
