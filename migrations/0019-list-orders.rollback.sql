set local search_path = app;
drop index audit_logs_action, audit_logs_entity_id, audit_logs_entity, audit_logs_actor, job_processing_logs_type_newest,
    job_processing_logs_status_newest, users_newest;
