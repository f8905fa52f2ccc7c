set local search_path = app;
drop index claims_to_take, claims_number_prefix, claims_diagnosis_newest, claims_amount, claims_service_date;
alter table claims drop column first_decided_at, drop column decision;
