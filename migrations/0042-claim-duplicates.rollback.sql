set local search_path = app;
drop index claims_patient_service_date;
