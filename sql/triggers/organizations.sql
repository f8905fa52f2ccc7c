-- Triggers of organizations, in the order in which they fire: `before` first, then by name.
create or replace trigger organizations_10_check before update of timezone on app.organizations
    for each row when (old.timezone is distinct from new.timezone) execute function app.check_organization();
create or replace trigger organizations_20_lookup after insert or update of slug on app.organizations
    for each row execute function app.add_organization_lookup();
create or replace trigger organizations_90_audit after insert or update or delete on app.organizations
    for each row execute function app.audit_row('organization_id');
