set local search_path = app;
drop index claims_assigned_service_date, claims_assigned_status_newest;
