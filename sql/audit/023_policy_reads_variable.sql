-- A policy that takes the caller from a variable: whoever runs SQL as the API may change it while a statement runs, and the next row is
-- judged by another. Only ctx.entered checks and reads in one, so ctx.same must stand beside every such variable. <table>_tenant may,
-- since <table>_signed stands beside it (022).
select '023 policy reads variable' as check,
       format('%I.%I: %I', p.schemaname, p.tablename, p.policyname) as object,
       'takes the caller from a variable alone, which may change within a statement' as problem,
       format('drop policy %I on %I.%I  -- until it asks ctx.entered', p.policyname, p.schemaname, p.tablename) as remedy
from pg_policies p
where p.schemaname = 'app' and p.policyname <> p.tablename || '_tenant'
  and (concat(p.qual, p.with_check) ~* 'organization_id\(\)|current_setting\(''app\.(?!(user|provider|patient)_id'')'
       or exists (
           select from unnest(array['user_id', 'provider_id', 'patient_id']) as variable, unnest(array[p.qual, p.with_check]) as rule
           where regexp_count(rule, format('current_setting\(''app\.%s''', variable))
                 > regexp_count(rule, format('ctx\.same\([\w.]+, \( SELECT ctx\.entered\(CURRENT_USER, ''%s''::text\)', variable))))
order by 2;
