set local search_path = app;
drop index auth.rate_limits_started;
drop index claims_provider_service_date, claims_status_service_date;
