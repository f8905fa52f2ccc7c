-- Tables of the schema ctx: the signing keys, and which organization a reporting login reads.
select schema_admin.drop_policies('ctx.keys');
revoke all on ctx.keys from public;
grant select on ctx.keys to claims_gate, claims_usher;
create policy keys_gate on ctx.keys for select to claims_gate, claims_usher using (true);

select schema_admin.drop_policies('ctx.reporters');
revoke all on ctx.reporters from public;
grant select on ctx.reporters to claims_gate;
create policy reporters_gate on ctx.reporters for select to claims_gate using (true);
