-- name: create
-- A new patient. It returns nothing: a provider sees the row only once the trigger has put it into its care.
insert into patients (member_number, first_name, last_name, date_of_birth, email, phone)
values (:member_number, :first_name, :last_name, :date_of_birth, :email, :phone);

-- name: get_by_member_number
-- The patient that create has just made.
select patient_json(p)
from patients p
where p.member_number = :member_number;

-- name: list_newest
-- Newest first, whatever the caller's policies let through.
select json_build_array(p.created_at, p.patient_id), patient_json(p)
from patients p
where true
and (p.created_at, p.patient_id) < ((:after::json ->> 0)::timestamptz, (:after::json ->> 1)::uuid) -- if :after
order by p.created_at desc, p.patient_id desc
limit :limit + 1
offset :offset -- if :offset
;

-- name: count
-- As many as list_newest would show, counted no further than 10,001.
select count(*) from (select from patients limit 10001) as counted;

-- name: get
-- One patient; no row when it is missing or hidden from the caller.
select patient_json(p)
from patients p
where p.patient_id = :patient_id;
