-- audit_seals: only claims_audit_sealer reads and inserts, to seal and verify. No role may update or delete, not even the owner.
select schema_admin.isolate('app.audit_seals');
revoke update, delete, truncate on app.audit_seals from claims_owner;
grant select on app.audit_seals to claims_audit_sealer;
grant insert (number, cluster_epoch, up_to, sealed_at, audit_ids, hashes, digest) on app.audit_seals to claims_audit_sealer;
create policy audit_seals_audit_sealer_select on app.audit_seals for select to claims_audit_sealer using (true);
create policy audit_seals_audit_sealer_insert on app.audit_seals for insert to claims_audit_sealer with check (true);
