-- How the database says no to a client: an SQLSTATE of its own, and details that name fields as the wire does.

-- What was sent does not fit: 400.
create or replace function app.raise_invalid(problems jsonb) returns void
language plpgsql as $$
begin
    if problems <> '{}' then
        raise exception using errcode = 'INVAL', message = 'fields do not fit', detail = problems::text;
    end if;
end
$$;

-- What was sent would fit another state of things: 409.
create or replace function app.raise_conflict(problems jsonb) returns void
language plpgsql as $$
begin
    if problems <> '{}' then
        raise exception using errcode = 'CLASH', message = 'not in this state', detail = problems::text;
    end if;
end
$$;
grant execute on function app.raise_invalid, app.raise_conflict
    to claims_admin, claims_processor, claims_provider, claims_patient, claims_system, claims_auth_definer, claims_trigger_definer;
