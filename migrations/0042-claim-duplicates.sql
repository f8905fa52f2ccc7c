-- Index for possible duplicates of a new claim (app.possible_duplicates), which every new claim without a number looks for. By a patient or an
-- amount alone, the search would read all of a patient's claims, or all of a common amount. It also has a patient's claims of some days.
set local search_path = app;
create index claims_patient_service_date on claims (organization_id, patient_id, service_date, amount_cents);
