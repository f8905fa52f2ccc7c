set local search_path = app;
drop index auth.windows_started;
drop index claims_provider_service_date, claims_status_service_date;
