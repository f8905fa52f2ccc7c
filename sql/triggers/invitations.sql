-- Triggers of invitations, in the order in which they fire: `before` first, then by name.
create or replace trigger invitations_10_check before insert on app.invitations for each row execute function app.check_invitation();
create or replace trigger invitations_90_audit after insert or update or delete on app.invitations
    for each row execute function app.audit_row('invitation_id');
