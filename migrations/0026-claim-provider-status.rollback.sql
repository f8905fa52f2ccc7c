set local search_path = app;
drop index claims_provider_status_newest;
