-- Indexes for the sort orders and filters of users, jobs and audit entries.
set local search_path = app;
create index users_newest on users (organization_id, created_at desc, user_id desc);
create index job_processing_logs_status_newest on job_processing_logs (organization_id, status, created_at desc, job_id desc);
create index job_processing_logs_type_newest on job_processing_logs (organization_id, job_type, created_at desc, job_id desc);
create index audit_logs_actor on audit_logs (organization_id, actor_user_id, at desc, audit_id desc);
create index audit_logs_entity on audit_logs (organization_id, entity, at desc, audit_id desc);
create index audit_logs_entity_id on audit_logs (organization_id, entity_id, at desc, audit_id desc);
create index audit_logs_action on audit_logs (organization_id, action, at desc, audit_id desc);
