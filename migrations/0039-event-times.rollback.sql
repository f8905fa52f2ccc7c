set local search_path = app;
drop index patient_status_events_occurred;
