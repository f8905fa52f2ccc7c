-- A policy must not depend on a value that can change while a statement runs, because the next row would be checked for another caller.
-- It must fulfil four rules (sql/platform/context.sql explains the functions):
-- 1. Every setting (context.variable, current_setting) has context.matches beside it, for the same column and the same id. A setting can
--    change; context.verified_id and context.required_id verify and read in one call.
-- 2. No id is compared by an equality alone, even with context.required_id. The planner keeps one of several equalities on a column, and
--    one of injected SQL may replace it. context.matches is evaluated for every row.
-- 3. Existing rows are compared with context.verified_id. context.required_id raises if the context was changed after the scan began, and
--    the error would reveal that there is a row.
-- 4. context.required_id and context.verified_id are in a sub-select of their own, which runs once a statement. For each row they would
--    cost two hashes, and could read another context.
-- Left out: <table>_tenant and <table>_requires_context, because check 022 requires <table>_context beside them.
with rule as (
    select p.schemaname, p.tablename, p.policyname, e.of_found_rows and e.expression ~ 'context\.required_id\(' as raises,
           replace(regexp_replace(e.expression, '\s+', ' ', 'g'), 'verified_id', 'required_id') as written
    from pg_policies p, (values (true), (false)) as k (of_found_rows),
         lateral (select k.of_found_rows, case when k.of_found_rows then p.qual else p.with_check end as expression) as e
    where p.schemaname = 'app' and e.expression is not null
),
beside as (  -- remainder: the rule without settings that have a context.matches, and without context.matches itself
    select r.*, regexp_replace(
        regexp_replace(r.written, '\(([\w.]+) = (?:context\.variable\(''|\(current_setting\(''app\.)(\w+)''::text\)(?:\)::uuid)?\)'
            ' AND (context\.matches\(\1, \( SELECT context\.required_id\(CURRENT_USER, ''\2''::text\) AS required_id\)\))', '\3', 'g'),
        'context\.matches\([\w.]+, \( SELECT context\.required_id\(CURRENT_USER(, ''\w+''::text)?\) AS required_id\)\)'
        '|\( SELECT context\.required_id\(CURRENT_USER, ''\w+''::text\) AS required_id\) IS NOT NULL', '', 'g') as remainder
    from rule r
)
select '023 policy reads variable' as check,
       format('%I.%I: %I', b.schemaname, b.tablename, b.policyname) as object, problem,
       format('drop policy %I on %I.%I  -- until it compares context.verified_id, by context.matches', b.policyname, b.schemaname,
              b.tablename) as remedy
from beside b
cross join lateral (values
    ('depends on a setting alone, which may change within a statement',
     b.policyname <> b.tablename || '_tenant'
     and b.remainder ~* 'organization_id\(\)|context\.variable\(|current_setting\((?!''(?!app\.))'),
    ('depends on an equality with context.required_id alone, which another equality may replace',
     b.policyname <> b.tablename || '_requires_context' and b.remainder ~ 'SELECT context\.required_id\('),
    ('compares existing rows with context.required_id, whose error reveals that there is one',
     b.policyname <> b.tablename || '_requires_context' and b.raises),
    ('calls context.required_id for every row',
     regexp_replace(b.written, '\( SELECT context\.required_id\(CURRENT_USER(, ''\w+''::text)?\) AS required_id\)', '', 'g')
         ~ 'context\.required_id\(')
) as fault (problem, is_found)
where fault.is_found
group by b.schemaname, b.tablename, b.policyname, problem
order by 2, 3;
