-- Days of an organization. A day begins and ends by the clock of the organization's time zone, never by that of the server, the session or
-- UTC. Days are counted as dates: 30 days before a day is `day - 30`, however long the days between them were.

-- The day of an instant in a time zone.
create or replace function app.local_day(zone text, at timestamptz) returns date
language sql immutable parallel safe
return (at at time zone zone)::date;

grant execute on function app.local_day
    to claims_admin, claims_processor, claims_provider, claims_patient, claims_system, claims_auth_definer, claims_trigger_definer;
