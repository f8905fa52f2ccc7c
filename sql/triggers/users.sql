-- Triggers of users, in the order in which they fire: `before` triggers first, then by name.
-- Lock the organization's admins, then reject the change if no active admin is left.
create or replace trigger users_29_lock_last_admin after update of role, active on app.users
    for each row when (old.role = 'admin' and old.active and not (new.role = 'admin' and new.active))
    execute function app.lock_last_admin();
create or replace trigger users_30_keep_last_admin after update of role, active on app.users
    for each row when (old.role = 'admin' and old.active and not (new.role = 'admin' and new.active))
    execute function app.keep_last_admin();
-- Ends the user's sessions.
create or replace trigger users_40_end_sessions after update of active on app.users
    for each row when (old.active is distinct from new.active) execute function auth.end_sessions();
-- Audit entry for each change.
create or replace trigger users_90_audit after insert or update or delete on app.users
    for each row execute function app.audit_row('user_id');
