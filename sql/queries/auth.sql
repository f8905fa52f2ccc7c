-- name: find_logins
-- Before there is a context: the memberships that a login is compared with, each with its hash.
-- signed: email slug
select organization_id, user_id, role, password_hash, changed_at
from auth.find_logins(:email, :slug, :proof);

-- name: record_failed_login
-- Into the trail of every tenant whose membership it was compared with.
-- signed: email slug request_id address
select auth.record_failed_login(:email, :slug, :request_id, :address, :proof);

-- name: register
-- A new tenant and its first admin.
-- signed: organization email name password_hash
select organization_id, user_id, role
from auth.register(:organization, :email, :name, :password_hash, :proof);

-- name: find_invitation
-- Whom it is for, while the invitation is open.
-- signed: tenant token_hash
select email
from auth.find_invitation(:tenant, :token_hash, :proof);

-- name: accept_invitation
-- Spends the invitation; no row when somebody else was faster.
-- signed: tenant token_hash name password_hash
select organization_id, user_id, role
from auth.accept_invitation(:tenant, :token_hash, :name, :password_hash, :proof);

-- name: find_password_hash
-- A hash that the email has in some organization, for its salt; null where it has none.
-- signed: email
select auth.find_password_hash(:email, :proof);

-- name: open_session
-- A new session with its first refresh token; the password's hash too where it was made with older parameters. False where the
-- password that was proven is no longer the one that holds.
-- signed: tenant user_id session_id refresh_hash seconds changed_at new_hash
select auth.open_session(:tenant, :user_id, :session_id, :refresh_hash, :seconds, :changed_at, :new_hash, :proof);

-- name: record_login
-- As the user who has just logged in.
select record_access('login', 'users', current_setting('app.user_id')::uuid);

-- name: refresh
-- Trades a refresh token for its successor; no row when it is dead, unknown or its user may not come in.
-- signed: old_hash successors seconds
select organization_id, user_id, role, session_id, place
from auth.refresh(:old_hash, :successors, :seconds, :proof);

-- name: log_out
-- Ends the caller's session, or that of one of its refresh tokens; false when there is none.
-- signed: caller refresh_hash
select auth.log_out(:refresh_hash, :proof);

-- name: find_password
-- The caller's own email, its hash, and since when it holds.
-- signed: caller
select u.email, own.password_hash, own.changed_at
from users u, auth.my_password_hash(:proof) own
where u.user_id = current_setting('app.user_id')::uuid;

-- name: set_password
-- The caller's; its other sessions end, and all its refresh tokens.
-- False where the password that was proven is no longer the one that holds.
-- signed: caller new_hash changed_at refresh_hash seconds
select auth.set_my_password(:new_hash, :changed_at, :refresh_hash, :seconds, :proof);

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
