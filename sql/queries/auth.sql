-- name: find_logins
-- The memberships that a login is compared with, each with its password hash. Runs without a context.
-- signed: email slug
select organization_id, user_id, role, password_hash, changed_at
from auth.find_logins(:email, :slug, :proof);

-- name: record_failed_login
-- Records a failed login in the audit log of every organization whose membership it was compared with.
-- signed: email slug request_id address
select auth.record_failed_login(:email, :slug, :request_id, :address, :proof);

-- name: register
-- Creates an organization and its first admin.
-- signed: organization email name password_hash
select organization_id, user_id, role
from auth.register(:organization, :email, :name, :password_hash, :proof);

-- name: find_invitation
-- The email of an invitation, while it can be accepted.
-- signed: tenant token_hash
select email
from auth.find_invitation(:tenant, :token_hash, :proof);

-- name: accept_invitation
-- Accepts an invitation; no row if a concurrent request has accepted it.
-- signed: tenant token_hash name password_hash
select organization_id, user_id, role
from auth.accept_invitation(:tenant, :token_hash, :name, :password_hash, :proof);

-- name: find_password_hash
-- A password hash of the email, for its salt; null if it has none.
-- signed: email
select auth.find_password_hash(:email, :proof);

-- name: open_session
-- Opens a session with its first refresh token, and stores a new hash of the same password if its parameters were raised. False if the
-- password was changed since it was checked.
-- signed: tenant user_id session_id refresh_hash seconds changed_at new_hash
select auth.open_session(:tenant, :user_id, :session_id, :refresh_hash, :seconds, :changed_at, :new_hash, :proof);

-- name: record_login
-- Records the login, in the context of the user who has just logged in.
select record_access('login', 'users', current_setting('app.user_id')::uuid);

-- name: refresh
-- Exchanges a refresh token for its successor; no row if it is unknown, expired or replaced, or its user may not log in.
-- signed: old_hash successors seconds
select organization_id, user_id, role, session_id, place
from auth.refresh(:old_hash, :successors, :seconds, :proof);

-- name: log_out
-- Ends the caller's session, or that of one of the caller's refresh tokens; false if there is none.
-- signed: caller refresh_hash
select auth.log_out(:refresh_hash, :proof);

-- name: find_password
-- The caller's email, password hash, and when the password was set.
-- signed: caller
select u.email, own.password_hash, own.changed_at
from users u, auth.my_password_hash(:proof) own
where u.user_id = current_setting('app.user_id')::uuid;

-- name: set_password
-- Sets the caller's password, and ends its other sessions and all its refresh tokens. False if the password was changed since it was
-- checked.
-- signed: caller new_hash changed_at refresh_hash seconds
select auth.set_my_password(:new_hash, :changed_at, :refresh_hash, :seconds, :proof);

-- name: me
-- The caller. Always one row, because a context needs an active user.
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
