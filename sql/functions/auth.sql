-- Logging in, before there is a tenant. All run as claims_gate.

-- Every login an email has, at most one a tenant; the caller compares the password with each. Each candidate is looked up
-- inside its own tenant, so no statement here sees two tenants' users.
create or replace function auth.find_logins(p_email text, p_slug text)
returns table (organization_id uuid, user_id uuid, role text, password_hash text)
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    candidate auth.credentials;
begin
    for candidate in select c.* from auth.credentials c where c.email = lower(p_email) loop
        perform set_config('app.organization_id', candidate.organization_id::text, true);
        return query
        select u.organization_id, u.user_id, u.role, candidate.password_hash
        from users u join organizations o on o.organization_id = u.organization_id
        where u.email = candidate.email and u.active and o.suspended_at is null and (p_slug is null or o.slug = p_slug);
    end loop;
    perform set_config('app.organization_id', '', true);
end
$$;

create or replace function auth.add_organization(p_slug text, p_name text) returns uuid
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    new_id uuid := uuid7();
begin
    perform set_config('app.organization_id', new_id::text, true);
    insert into organizations (organization_id, slug, name) values (new_id, p_slug, p_name);
    return new_id;
end
$$;

-- A user of the organization whose context is set, who may log in from then on.
create or replace function auth.add_user(
    p_email text, p_name text, p_role text, p_provider_id uuid, p_patient_id uuid, p_password_hash text) returns uuid
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
declare
    new_id uuid := uuid7();
begin
    insert into users (user_id, email, name, role, provider_id, patient_id)
    values (new_id, lower(p_email), p_name, p_role, p_provider_id, p_patient_id);
    insert into auth.credentials (email, organization_id, password_hash)
    values (lower(p_email), organization_id(), p_password_hash);
    return new_id;
end
$$;

alter function auth.find_logins owner to claims_gate;
alter function auth.add_organization owner to claims_gate;
alter function auth.add_user owner to claims_gate;
revoke execute on function auth.find_logins, auth.add_organization, auth.add_user from public;
grant execute on function auth.find_logins to claims_api;

select schema_admin.drop_policies('auth.credentials');
revoke all on auth.credentials from public;
grant select, insert on auth.credentials to claims_gate;
create policy credentials_gate on auth.credentials to claims_gate using (true) with check (true);
