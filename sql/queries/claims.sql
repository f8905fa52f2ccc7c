-- name: create
-- A new claim; triggers check it, write its first history row and make the care relationship.
insert into claims as c (claim_number, patient_id, provider_id, diagnosis_code, amount_cents, service_date, status, notes)
values (coalesce(:claim_number, new_claim_number()), :patient_id, :provider_id, :diagnosis_code, :amount_cents,
        :service_date, :status, :notes)
returning claim_json(c);

-- name: list_newest
-- Newest first, whatever the caller's policies let through. At most limit + 1 rows, so that a next page shows.
select json_build_array(c.created_at, c.claim_id), claim_json(c)
from claims c
where true
and c.status = any (:status) -- if :status
and (c.created_at, c.claim_id) < ((:after::json ->> 0)::timestamptz, (:after::json ->> 1)::uuid) -- if :after
order by c.created_at desc, c.claim_id desc
limit :limit + 1
offset :offset -- if :offset
;

-- name: count
-- As many as list_newest would show, counted no further than 10,001.
select count(*)
from (
    select
    from claims c
    where true
    and c.status = any (:status) -- if :status
    limit 10001
) as counted;

-- name: get
-- One claim with its history, oldest first; no row when it is missing or hidden from the caller.
select claim_json(c, (
    select json_agg(json_build_object(
        'from', h.from_status,
        'to', h.to_status,
        'at', utc(h.at),
        'byUserId', h.by_user_id,
        'byRole', h.by_role,
        'reason', h.reason,
        'source', h.source,
        'eventId', h.event_id) order by h.version)
    from claim_status_history h
    where h.claim_id = c.claim_id))
from claims c
where c.claim_id = :claim_id;

-- name: move
-- One claim to another status; whether that is legal is the trigger's to say. `notes` may go along.
update claims as c
set status = :status, status_reason = :reason, denial_reason = :denial_reason, denial_code = :denial_code,
    approved_cents = :approved_cents
    , notes = :notes -- if :notes
where c.claim_id = :claim_id
returning claim_json(c);

-- name: change
-- Its notes only; without any, the row as it is.
update claims as c
set notes = :notes
where c.claim_id = :claim_id
returning claim_json(c);
