-- A login that is or can become the owner, a definer role, a superuser or a BYPASSRLS role bypasses every policy. One that can become
-- claims_check_<role> could alter the functions of who_can_see, which that role owns. A login that is an operator can act as any user,
-- because context.required_id does not verify its settings. Checked are our logins and the members of our roles.
-- Left out: other superusers, who are administrators.
with ours as (
    select oid from pg_roles
    where rolname in ('claims_owner', 'claims_auth_definer', 'claims_context_definer', 'claims_trigger_definer', 'claims_audit_sealer',
                      'claims_admin', 'claims_processor', 'claims_provider', 'claims_patient', 'claims_system', 'claims_api',
                      'claims_worker', 'claims_auditor')
),
logins as (
    select r.* from pg_roles r
    where r.rolname in ('claims_api', 'claims_worker', 'claims_auditor')
       or r.rolcanlogin and not r.rolsuper and exists (select from ours where pg_has_role(r.oid, ours.oid, 'member'))
),
found (login, problem, remedy) as (
    select l.rolname, 'is a superuser', format('alter role %I nosuperuser', l.rolname) from logins l where l.rolsuper
    union all
    select l.rolname, 'has BYPASSRLS', format('alter role %I nobypassrls', l.rolname) from logins l where l.rolbypassrls
    union all
    select l.rolname, 'has CREATEROLE, and may grant itself other roles', format('alter role %I nocreaterole', l.rolname)
    from logins l where l.rolcreaterole and not l.rolsuper
    union all
    select l.rolname, format('can become %I', r.rolname), format('revoke %I from %I, or from the role in between', r.rolname, l.rolname)
    from logins l join pg_roles r on r.oid <> l.oid and pg_has_role(l.oid, r.oid, 'member')
    where not l.rolsuper  -- a superuser is a member of everything
      and (r.rolname in ('claims_owner', 'claims_auth_definer', 'claims_context_definer', 'claims_trigger_definer', 'claims_audit_sealer')
           or r.rolname like 'claims\_check\_%' or r.rolsuper or r.rolbypassrls)
    union all
    select l.rolname, 'is an operator, which needs no signature',
           format('revoke claims_operator from %I, or from the role in between', l.rolname)
    from logins l
    where l.rolname in ('claims_api', 'claims_worker', 'claims_auditor') and not l.rolsuper
      and pg_has_role(l.oid, 'claims_operator', 'member')
    union all
    select l.rolname, format('owns %I.%I', n.nspname, c.relname), format('alter table %I.%I owner to claims_owner', n.nspname, c.relname)
    from logins l join pg_class c on c.relowner = l.oid join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname in ('app', 'auth', 'context', 'schema_admin', 'procrastinate')
)
select '070 login too strong' as check, login::text as object, problem, remedy from found order by 2, 3;
