-- Days of an organization. A day begins and ends by the clock of the organization's time zone, never by that of the server, the session or
-- UTC. Days are counted as dates: 30 days before a day is `day - 30`, however long the days between them were.

-- The day of an instant in a time zone.
create or replace function app.local_day(zone text, at timestamptz) returns date
language sql immutable parallel safe
return (at at time zone zone)::date;

-- The time zone of the context's organization, and the day there now. A definer function, because providers may not read the settings.
create or replace function app.organization_days(out zone text, out today date)
language sql stable security definer set search_path = app, pg_catalog, pg_temp as $$
    select timezone, local_day(timezone, now()) from organizations where organization_id = organization_id()
$$;
alter function app.organization_days owner to claims_auth_definer;

grant execute on function app.organization_days to claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
grant execute on function app.local_day
    to claims_admin, claims_processor, claims_provider, claims_patient, claims_system, claims_auth_definer, claims_trigger_definer;
