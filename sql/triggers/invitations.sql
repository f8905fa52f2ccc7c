-- Triggers of invitations, in the order in which they fire: `before` triggers first, then by name.
-- Rejects an email that already has a user in the organization.
create or replace trigger invitations_10_check before insert on app.invitations for each row execute function app.check_invitation();
-- Audit entry for each change.
create or replace trigger invitations_90_audit after insert or update or delete on app.invitations
    for each row execute function app.audit_row('invitation_id');
