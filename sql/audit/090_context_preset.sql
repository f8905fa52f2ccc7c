-- app.* is set once a transaction by ctx.enter. A default of a role or database stands in for it: what should fail without a
-- context then runs in the preset tenant.
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
order by 2, 3;
