-- name: create
-- The event; a trigger enqueues its job in the same statement. No row when the idempotency key is taken.
insert into patient_status_events as e (
    patient_id, provider_id, event_type, occurred_at, visit_number, facility, notes, idempotency_key)
values (:patient_id, :provider_id, :event_type, :occurred_at, :visit_number, :facility, :notes, :idempotency_key)
on conflict (organization_id, idempotency_key) do nothing
returning event_json(e);

-- name: get_by_key
-- The event that took the key first, and whether it has the same content.
select event_json(e, j.status, j.result),
    (e.patient_id, e.event_type, e.occurred_at) = (:patient_id, :event_type, :occurred_at)
    and e.provider_id is not distinct from :provider_id
    and e.visit_number is not distinct from :visit_number
    and e.facility is not distinct from :facility
    and e.notes is not distinct from :notes
from patient_status_events e
join job_processing_logs j on j.event_id = e.event_id
where e.idempotency_key = :idempotency_key;

-- name: list_newest
-- written out: limit
-- A patient's events, newest first, each with the state and the result of its job.
select json_build_array(e.created_at, e.event_id), event_json(e, j.status, j.result)
from patient_status_events e
join job_processing_logs j on j.event_id = e.event_id
where e.patient_id = :patient_id
and (e.created_at, e.event_id) < ((select (:after::json ->> 0)::timestamptz), (select (:after::json ->> 1)::uuid)) -- if :after
order by e.created_at desc, e.event_id desc
limit :limit + 1
offset :offset -- if :offset
;

-- name: count
-- As many as list_newest would show, counted no further than 10,001.
select count(*)
from (select from patient_status_events e where e.patient_id = :patient_id limit 10001) as counted;

-- name: patient_exists
-- A row when the caller may see the patient: a history that is not there is 404, one without events is an empty list.
select 1
from patients p
where p.patient_id = :patient_id;
