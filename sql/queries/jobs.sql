-- name: start
-- This attempt takes the job: a new token, unless it is done. Returns token and, when it is done, the stored result.
update job_processing_logs
set status = case when status = 'completed' then status else 'processing' end,
    attempts = attempts + (status <> 'completed')::integer,
    attempt_token = case when status = 'completed' then attempt_token else :token::uuid end,
    started_at = case when status = 'completed' then started_at else now() end
where event_id = :event_id
returning status, result::text;

-- name: complete
-- In the transaction of the effect. No row when another attempt has taken the job since: then the effect is rolled back.
update job_processing_logs
set status = 'completed', result = :result::json, error = null, finished_at = now()
where event_id = :event_id and attempt_token = :token and status = 'processing'
returning job_id;

-- name: fail
-- How this attempt ended, by the class of the failure only.
update job_processing_logs
set status = 'failed', error = :error, finished_at = now()
where event_id = :event_id and attempt_token = :token and status = 'processing';

-- name: review_submitted
-- Admission: the patient's submitted claims go under review.
select move_claims(array(
    select c.claim_id from claims c
    where c.patient_id = e.patient_id and c.status = 'submitted'
    order by c.claim_id
    for update), 'under_review', e.event_id)::text
from patient_status_events e
where e.event_id = :event_id;

-- name: review_treated
-- A treatment: the same, only for the provider the event names, where it names one.
select move_claims(array(
    select c.claim_id from claims c
    where c.patient_id = e.patient_id and c.status = 'submitted' and c.provider_id = coalesce(e.provider_id, c.provider_id)
    order by c.claim_id
    for update), 'under_review', e.event_id)::text
from patient_status_events e
where e.event_id = :event_id;

-- name: settle_visit
-- Discharge: the visit's open claims. What a person works on is left alone; small amounts are approved; the rest is reviewed.
with visit as (
    select e.event_id, e.patient_id, d.first_day, d.last_day, o.auto_approve_limit_cents as approve_up_to
    from patient_status_events e
    join organizations o on o.organization_id = e.organization_id
    cross join visit_days(e) as d
    where e.event_id = :event_id
),
open as materialized (
    select c.claim_id, c.status, c.amount_cents <= v.approve_up_to as small,
           c.assigned_to is not null and c.status_by is not null as in_hand
    from claims c, visit v
    where c.patient_id = v.patient_id and c.status in ('submitted', 'under_review')
      and c.service_date between v.first_day and v.last_day
    order by c.claim_id
    for update of c
),
approved as materialized (
    select move_claims(array(select claim_id from open where small and not in_hand), 'approved', v.event_id) as done from visit v
),
reviewed as materialized (
    select move_claims(array(select claim_id from open where not small and not in_hand and status = 'submitted'),
                       'under_review', v.event_id) as done from visit v
)
select jsonb_build_object(
    'updated', approved.done -> 'updated' || (reviewed.done -> 'updated'),
    'skipped', (select coalesce(jsonb_agg(jsonb_build_object('id', claim_id, 'reason', case
                    when in_hand then 'a person is working on it' else 'under review already' end)), '[]')
                from open where in_hand or (not small and status = 'under_review')),
    'failed', approved.done -> 'failed' || (reviewed.done -> 'failed'))::text
from approved, reviewed;

-- name: undo_admission
-- Put back what the cancelled admission moved and nothing touched since.
select move_claims(array(
    select c.claim_id from claims c
    where c.patient_id = e.patient_id and c.status = 'under_review' and c.status_event_id in (
        select a.event_id from patient_status_events a
        where a.patient_id = e.patient_id and a.event_type = 'admission' and a.occurred_at <= e.occurred_at
          and (e.visit_number is null or a.visit_number = e.visit_number)
        order by a.occurred_at desc limit 1)
    order by c.claim_id
    for update), 'submitted', e.event_id)::text
from patient_status_events e
where e.event_id = :event_id;

-- name: undo_discharge
-- Reopen what the cancelled discharge approved and nothing touched since.
select move_claims(array(
    select c.claim_id from claims c
    where c.patient_id = e.patient_id and c.status = 'approved' and c.status_event_id in (
        select d.event_id from patient_status_events d
        where d.patient_id = e.patient_id and d.event_type = 'discharge' and d.occurred_at <= e.occurred_at
          and (e.visit_number is null or d.visit_number = e.visit_number)
        order by d.occurred_at desc limit 1)
    order by c.claim_id
    for update), 'under_review', e.event_id, 'the discharge was cancelled')::text
from patient_status_events e
where e.event_id = :event_id;

-- name: seal
-- Every organization's entries of the trail that are final; how many.
select seal_audit_logs();

-- name: heads
-- The last seal of each organization.
select organization_id, number, digest
from audit_heads();

-- name: allow
-- Sealing what has piled up may take longer than a job does.
select set_config('statement_timeout', :milliseconds, true);
