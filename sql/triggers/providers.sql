-- Triggers of providers, in the order in which they fire: `before` triggers first, then by name.
-- Audit entry for each change.
create or replace trigger providers_90_audit after insert or update or delete on app.providers
    for each row execute function app.audit_row('provider_id');
