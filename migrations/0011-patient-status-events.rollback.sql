set local search_path = app;
drop table patient_status_events;
