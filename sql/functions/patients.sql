-- Rules of patients.

-- Trigger: checks the member number and the date of birth. A date of birth lies not in the future, by the organization's calendar, and not
-- after a day of care that was already reported.
create or replace function app.check_patient() returns trigger
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
begin
    new.member_number := trim_number(new.member_number);
    perform raise_invalid(text_errors(
        jsonb_build_object('firstName', new.first_name, 'lastName', new.last_name),
        jsonb_build_object('memberNumber', new.member_number)));
    -- No zone is further than a day ahead of the session's. For other dates the settings need not be read.
    if new.date_of_birth >= current_date - 1 then
        if new.date_of_birth > (organization_days()).today then
            perform raise_invalid('{"dateOfBirth": ["Must not lie in the future or before 1875"]}');
        end if;
    end if;
    if tg_op = 'UPDATE' and new.date_of_birth > old.date_of_birth then
        if exists (
            select from claims c
            where c.organization_id = new.organization_id and c.patient_id = new.patient_id and c.service_date < new.date_of_birth
              and c.status not in ('draft', 'voided'))
        then
            perform raise_conflict('{"dateOfBirth": ["Lies after the service date of a claim of this patient"]}');
        elsif exists (
            select from patient_status_events e
            where e.organization_id = new.organization_id and e.patient_id = new.patient_id
              and local_day((select zone from organization_days()), e.occurred_at) < new.date_of_birth)
        then
            perform raise_conflict('{"dateOfBirth": ["Lies after an event of this patient"]}');
        end if;
    end if;
    return new;
end
$$;
