-- Triggers of providers, in the order in which they fire: `before` triggers first, then by name.
-- Rejects a blank name or specialty.
create or replace trigger providers_10_texts before insert or update of name, specialty on app.providers
    for each row when (app.is_blank(new.name) or app.is_blank(new.specialty))
    execute function app.refuse_blank('name', 'name', 'specialty', 'specialty');
-- Audit entry for each change.
create or replace trigger providers_90_audit after insert or update or delete on app.providers
    for each row execute function app.audit_row('provider_id');
