-- name: find_logins
-- Before there is a context: every login this email has, one a tenant, with the hash to compare the password with.
select organization_id, user_id, role, password_hash, changed_at
from auth.find_logins(:email, :slug);

-- name: login_failed
-- Into the trail of every tenant whose user it was tried on.
select auth.login_failed(:email, :slug, :request_id, :address);

-- name: register
-- A new tenant and its first admin.
select organization_id, user_id, role
from auth.register(:organization, :email, :name, :password_hash);

-- name: find_invitation
-- Whom it is for, while the invitation is open.
select email
from auth.find_invitation(:tenant, :token_hash);

-- name: accept_invitation
-- Spends the invitation; no row when somebody else was faster.
select organization_id, user_id, role
from auth.accept_invitation(:tenant, :token_hash, :name, :password_hash);

-- name: find_hash
-- A hash that the email has in some organization, for its salt; null where it has none.
select auth.find_hash(:email);

-- name: open_session
-- A new session with its first refresh token; the password's hash too where it was made with older parameters. False where the
-- password that was proven is no longer the one that holds.
select auth.open_session(:tenant, :user_id, :session_id, :refresh_hash, :seconds, :changed_at, :new_hash);

-- name: record_login
-- As the user who has just logged in.
select record_act('login', 'users', current_setting('app.user_id')::uuid);

-- name: refresh
-- Trades a refresh token for the next; no row when it is dead, unknown or its user may not come in.
select organization_id, user_id, role, session_id
from auth.refresh(:old_hash, :new_hash, :seconds);

-- name: log_out
-- Ends the caller's session, or that of one of its refresh tokens; false when there is none.
select auth.log_out(:refresh_hash);

-- name: find_password
-- The caller's own email and hash.
select u.email, auth.my_password_hash()
from users u
where u.user_id = current_setting('app.user_id')::uuid;

-- name: set_password
-- The caller's; its other sessions end.
select auth.set_my_password(:new_hash);

-- name: me
-- The caller; a row always, or the context could not have been entered.
select json_build_object(
    'id', u.user_id,
    'email', u.email,
    'name', u.name,
    'role', u.role,
    'providerId', u.provider_id,
    'patientId', u.patient_id,
    'organization', json_build_object('id', o.organization_id, 'slug', o.slug, 'name', o.name))
from users u
join organizations o on o.organization_id = u.organization_id
where u.user_id = current_setting('app.user_id')::uuid;
