-- name: create
-- Creates an invitation. Its token contains the organization's id, because the invited user has no organization yet. Only the token's
-- hash is stored.
insert into invitations as i (email, role, provider_id, patient_id, token_hash)
values (lower(:email), :role, :provider_id, :patient_id, :token_hash)
returning (left(invitation_json(
    i.invitation_id, i.email, i.role, i.provider_id, i.patient_id, i.created_at, i.expires_at, i.accepted_at)::text, -1)
    || ', "invitationToken" : ' || to_json(i.organization_id || '.' || :secret) || '}')::json;

-- name: list_newest
-- written out: limit
-- The organization's invitations, newest first.
select json_build_array(i.created_at, i.invitation_id), invitation_json(
    i.invitation_id, i.email, i.role, i.provider_id, i.patient_id, i.created_at, i.expires_at, i.accepted_at)
from invitations i
where true
and (i.created_at, i.invitation_id) < ((select (:after::json ->> 0)::timestamptz), (select (:after::json ->> 1)::uuid)) -- if :after
order by i.created_at desc, i.invitation_id desc
limit :limit + 1
offset :offset -- if :offset
;

-- name: count
-- The number of rows of list_newest, up to 10,001.
select count(*) from (select from invitations limit 10001) as counted;

-- name: withdraw
-- Withdraws an invitation; no row if it does not exist or was accepted.
delete from invitations i
where i.invitation_id = :invitation_id
returning 1;
