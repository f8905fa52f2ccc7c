-- name: create
-- Creates a patient. Returns nothing, because a provider can see the row only after the trigger has added the care relationship.
insert into patients (@columns)
values (@values);

-- name: get_by_member_number
-- The patient that `create` has inserted.
select patient_json(p)
from patients p
where p.member_number = :member_number;

-- name: list_newest
-- written out: limit
-- The patients that the caller may see, newest first.
select json_build_array(p.created_at, p.patient_id), patient_json(p)
from patients p
where true
and (p.created_at, p.patient_id) < ((select (:after::json ->> 0)::timestamptz), (select (:after::json ->> 1)::uuid)) -- if :after
order by p.created_at desc, p.patient_id desc
limit :limit + 1
offset :offset -- if :offset
;

-- name: count
-- The number of rows of list_newest, up to 10,001.
select count(*) from (select from patients limit 10001) as counted;

-- name: get
-- One patient; no row if it does not exist or the caller may not see it. The read is recorded.
select patient_json(p)
from patients p, record_access('read', 'patients', p.patient_id, p.patient_id)
where p.patient_id = :patient_id;

-- name: exists
-- One row if the caller may see the patient: distinguishes what may not be changed (403) from what does not exist (404).
select 1
from patients p
where p.patient_id = :patient_id;

-- name: change
-- Updates the columns that were sent.
update patients as p
set member_number = coalesce(:member_number, p.member_number),
    first_name = coalesce(:first_name, p.first_name),
    last_name = coalesce(:last_name, p.last_name),
    date_of_birth = coalesce(:date_of_birth, p.date_of_birth)
    , email = :email -- if :set_email
    , phone = :phone -- if :set_phone
where p.patient_id = :patient_id
returning patient_json(p);

-- name: set_care
-- Adds a care relationship, if there is none yet; no row if the patient or the provider does not exist.
with pair as (
    select p.patient_id, v.provider_id
    from patients p, providers v
    where p.patient_id = :patient_id and v.provider_id = :provider_id
),
made as (
    insert into care_relationships (patient_id, provider_id)
    select patient_id, provider_id from pair
    on conflict do nothing
)
select 1
from pair;

-- name: end_care
-- Ends a care relationship; no row if there is none.
delete from care_relationships r
where r.patient_id = :patient_id and r.provider_id = :provider_id
returning 1;
