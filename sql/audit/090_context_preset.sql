-- context.begin_request sets app.* in each transaction. A default of a role or database replaces a missing context: a statement that
-- should fail runs in the preset organization.
-- Left out: the organization of a reporting login, which it may read.
select '090 context preset' as check,
       concat_ws(' in ', 'role ' || r.rolname, 'database ' || d.datname) as object,
       format('presets %s', split_part(s.setting, '=', 1)) as problem,
       case when r.rolname is null then format('alter database %I reset %s', d.datname, split_part(s.setting, '=', 1))
            else format('alter role %I%s reset %s', r.rolname, ' in database ' || quote_ident(d.datname), split_part(s.setting, '=', 1))
       end as remedy
from pg_db_role_setting x
cross join lateral unnest(x.setconfig) as s (setting)
left join pg_roles r on r.oid = x.setrole
left join pg_database d on d.oid = x.setdatabase
where lower(s.setting) like 'app.%' and (x.setdatabase = 0 or d.datname = current_database())
  and not (lower(s.setting) like 'app.organization\_id=%' and not coalesce(r.rolsuper, true)
           and r.rolname not in ('claims_api', 'claims_worker', 'claims_auditor')
           and exists (select from pg_roles g where g.rolname = 'claims_reporting' and pg_has_role(r.oid, g.oid, 'member')))
order by 2, 3;
