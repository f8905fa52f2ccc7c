set local search_path = app;
drop table job_processing_logs;
