-- Errors that a client receives: an own SQLSTATE, and a detail with the messages by field, named as in the API: {"field": ["message"]}.

-- Raises INVAL (400) for invalid input; does nothing if problems is empty.
create or replace function app.raise_invalid(problems jsonb) returns void
language plpgsql as $$
begin
    if problems <> '{}' then
        raise exception using errcode = 'INVAL', message = 'invalid fields', detail = problems::text;
    end if;
end
$$;

-- Raises CLASH (409) for input that is valid but conflicts with the current state; does nothing if problems is empty.
create or replace function app.raise_conflict(problems jsonb) returns void
language plpgsql as $$
begin
    if problems <> '{}' then
        raise exception using errcode = 'CLASH', message = 'conflict with the current state', detail = problems::text;
    end if;
end
$$;
grant execute on function app.raise_invalid, app.raise_conflict
    to claims_admin, claims_processor, claims_provider, claims_patient, claims_system, claims_auth_definer, claims_trigger_definer;
