-- audit_seals: claims_audit_sealer adds and compares; nobody else reads, and nobody changes or removes, the owner neither.
select schema_admin.isolate('app.audit_seals');
revoke update, delete, truncate on app.audit_seals from claims_owner;
grant select on app.audit_seals to claims_audit_sealer;
grant insert (number, cluster_epoch, up_to, sealed_at, audit_ids, hashes, digest) on app.audit_seals to claims_audit_sealer;
create policy audit_seals_audit_sealer_select on app.audit_seals for select to claims_audit_sealer using (true);
create policy audit_seals_audit_sealer_insert on app.audit_seals for insert to claims_audit_sealer with check (true);
