set local search_path = app;
drop table audit_seals;
alter table audit_logs
    drop column written_by,
    drop column cluster_epoch,
    alter column at set default now();
