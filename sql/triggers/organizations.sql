-- Triggers of organizations, in the order in which they fire: `before` triggers first, then by name.
-- Rejects an unknown time zone.
create or replace trigger organizations_10_check before update of timezone on app.organizations
    for each row when (old.timezone is distinct from new.timezone) execute function app.check_organization();
-- Rejects a blank name.
create or replace trigger organizations_11_texts before insert or update of name on app.organizations
    for each row when (app.is_blank(new.name)) execute function app.refuse_blank('name', 'name');
-- Copies id and slug to auth.organization_lookup, where logins find the organization.
create or replace trigger organizations_20_lookup after insert or update of slug on app.organizations
    for each row execute function app.add_organization_lookup();
-- Audit entry for each change.
create or replace trigger organizations_90_audit after insert or update or delete on app.organizations
    for each row execute function app.audit_row('organization_id');
