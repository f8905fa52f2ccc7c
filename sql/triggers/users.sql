-- Triggers of users, in the order in which they fire: `before` triggers first, then by name.
-- Rejects a blank name.
create or replace trigger users_10_texts before insert or update of name on app.users
    for each row when (app.is_blank(new.name)) execute function app.refuse_blank('name', 'name');
-- Lock the organization's admins, then reject the change if no active admin is left.
create or replace trigger users_29_lock_last_admin after update of role, active on app.users
    for each row when (old.role = 'admin' and old.active and not (new.role = 'admin' and new.active))
    execute function app.lock_last_admin();
create or replace trigger users_30_keep_last_admin after update of role, active on app.users
    for each row when (old.role = 'admin' and old.active and not (new.role = 'admin' and new.active))
    execute function app.keep_last_admin();
-- Returns the claims of a processor who is deactivated or gets another role to the queue.
create or replace trigger users_35_release_claims after update of role, active on app.users
    for each row when (old.role = 'claims_processor' and old.active and not (new.role = 'claims_processor' and new.active))
    execute function app.release_claims();
-- Ends the user's sessions.
create or replace trigger users_40_end_sessions after update of active on app.users
    for each row when (old.active is distinct from new.active) execute function auth.end_sessions();
-- Audit entry for each change.
create or replace trigger users_90_audit after insert or update or delete on app.users
    for each row execute function app.audit_row('user_id');
