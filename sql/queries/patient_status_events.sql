-- name: create
-- Creates an event; a trigger enqueues its job in the same statement. No row if the idempotency key was used before.
insert into patient_status_events as e (
    patient_id, provider_id, event_type, occurred_at, visit_number, facility, notes, idempotency_key)
values (:patient_id, :provider_id, :event_type, :occurred_at, :visit_number, :facility, :notes, :idempotency_key)
on conflict (organization_id, idempotency_key, sender_provider_id) where idempotency_key is not null do nothing
returning event_json(e);

-- name: get_by_key
-- The event that the caller, as this sender, reported with this idempotency key, and whether it has the same content.
select event_json(e, j.status, job_result(j)),
    (e.patient_id, e.event_type, e.occurred_at) = (:patient_id, :event_type, :occurred_at)
    and e.provider_id is not distinct from :provider_id
    and e.visit_number is not distinct from :visit_number
    and e.facility is not distinct from :facility
    and e.notes is not distinct from :notes
from patient_status_events e
join job_processing_logs j on j.event_id = e.event_id
where e.idempotency_key = :idempotency_key
and e.sender_provider_id is not distinct from context.verified_id(current_user, 'provider_id');

-- name: list_newest
-- written out: limit
-- A patient's events, newest first, each with the status and the result of its job.
select json_build_array(e.created_at, e.event_id), event_json(e, j.status, job_result(j))
from patient_status_events e
join job_processing_logs j on j.event_id = e.event_id
where e.patient_id = :patient_id
and (e.created_at, e.event_id) < ((select (:after::json ->> 0)::timestamptz), (select (:after::json ->> 1)::uuid)) -- if :after
order by e.created_at desc, e.event_id desc
limit :limit + 1
offset :offset -- if :offset
;

-- name: count
-- The number of rows of list_newest, up to 10,001.
select count(*)
from (select from patient_status_events e where e.patient_id = :patient_id limit 10001) as counted;

-- name: patient_exists
-- One row if the caller may see the patient: distinguishes an unknown patient (404) from one without events (an empty list).
select 1
from patients p
where p.patient_id = :patient_id;
