-- name: create
-- An invitation; its token names the organization, since whoever uses it has none yet. Only the token's hash is kept.
insert into invitations as i (email, role, provider_id, patient_id, token_hash)
values (lower(:email), :role, :provider_id, :patient_id, :token_hash)
returning (left(invitation_json(
    i.invitation_id, i.email, i.role, i.provider_id, i.patient_id, i.created_at, i.expires_at, i.accepted_at)::text, -1)
    || ', "invitationToken" : ' || to_json(i.organization_id || '.' || :secret) || '}')::json;

-- name: list_newest
-- written out: limit
-- All of the organization's, newest first.
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
-- As many as list_newest would show, counted no further than 10,001.
select count(*) from (select from invitations limit 10001) as counted;

-- name: withdraw
-- No row when there is none that is still open.
delete from invitations i
where i.invitation_id = :invitation_id
returning 1;
