-- name: find_logins
-- Before there is a context: every login this email has, one a tenant, with the hash to compare the password with.
select organization_id, user_id, role, password_hash
from auth.find_logins(:email, :slug);

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
