-- name: list_newest
-- written out: limit
-- The organization's users, newest first.
select json_build_array(u.created_at, u.user_id), user_json(u)
from users u
where true
and (u.created_at, u.user_id) < ((select (:after::json ->> 0)::timestamptz), (select (:after::json ->> 1)::uuid)) -- if :after
order by u.created_at desc, u.user_id desc
limit :limit + 1
offset :offset -- if :offset
;

-- name: count
-- The number of rows of list_newest, up to 10,001.
select count(*) from (select from users limit 10001) as counted;

-- name: lock
-- Locks the user against the foreign key of an assignment, so that no claim is assigned to it meanwhile. One row if the organization has this user.
select 1
from users u
where u.user_id = :user_id
for update;

-- name: change
-- Updates the columns that were sent, also to null. A change of role removes the provider or patient id of the previous role. The claims of
-- a processor who is deactivated or gets another role return to the queue (trigger users_35_release_claims); the result has their number.
with released as (
    select count(*) as claims
    from users u
    join claims c on c.assigned_to = u.user_id and c.status not in ('voided', 'reversed')
    where u.user_id = :user_id and u.role = 'claims_processor' and u.active
      and (coalesce(:role, u.role) <> u.role or not coalesce(:active, u.active))
)
update users as u
set role = coalesce(:role, u.role),
    active = coalesce(:active, u.active),
    provider_id = coalesce(:provider_id, case when coalesce(:role, u.role) = 'provider'
        and not :set_provider_id -- if :set_provider_id
        then u.provider_id end),
    patient_id = coalesce(:patient_id, case when coalesce(:role, u.role) = 'patient'
        and not :set_patient_id -- if :set_patient_id
        then u.patient_id end)
where u.user_id = :user_id
returning (left(user_json(u)::text, -1) || ', "releasedClaims" : ' || (select claims from released) || '}')::json;

-- name: reassign
-- Reassigns a user's claims; returns how many. No row if the organization has no such user.
select json_build_object('reassigned', reassign_claims(u.user_id, :to_user_id))
from users u
where u.user_id = :user_id;
