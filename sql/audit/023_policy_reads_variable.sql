-- A policy that takes the caller from what may change while a statement runs, so that the next row is judged by another. A variable may:
-- only context.verified_id (and context.required_id, which raises) checks and reads in one, so context.matches must stand beside every variable, on the same column and for the same id.
-- So may a plain equality, even one with context.required_id: the planner keeps one of several on a column, and an injected one may take its
-- place, while context.matches decides at every row. <table>_tenant and <table>_requires_context may be what they are, since
-- 022 holds <table>_context beside them. context.required_id is to be asked once a statement, in a select of its own: at every row it would cost
-- two hashes, and could be asked of another context. What a policy asks of rows that a scan found must be context.verified_id: context.required_id raises,
-- and where the context was changed after the scan began, that tells that there is a row.
with rule as (
    select p.schemaname, p.tablename, p.policyname, e.of_found_rows and e.expression ~ 'context\.required_id\(' as raises,
           replace(regexp_replace(e.expression, '\s+', ' ', 'g'), 'verified_id', 'required_id') as written
    from pg_policies p, (values (true), (false)) as k (of_found_rows),
         lateral (select k.of_found_rows, case when k.of_found_rows then p.qual else p.with_check end as expression) as e
    where p.schemaname = 'app' and e.expression is not null
),
beside as (  -- without what stands beside a context.matches, and without what decides at every row
    select r.*, regexp_replace(
        regexp_replace(r.written, '\(([\w.]+) = (?:context\.variable\(''|\(current_setting\(''app\.)(\w+)''::text\)(?:\)::uuid)?\)'
            ' AND (context\.matches\(\1, \( SELECT context\.required_id\(CURRENT_USER, ''\2''::text\) AS required_id\)\))', '\3', 'g'),
        'context\.matches\([\w.]+, \( SELECT context\.required_id\(CURRENT_USER(, ''\w+''::text)?\) AS required_id\)\)'
        '|\( SELECT context\.required_id\(CURRENT_USER, ''\w+''::text\) AS required_id\) IS NOT NULL', '', 'g') as alone
    from rule r
)
select '023 policy reads variable' as check,
       format('%I.%I: %I', b.schemaname, b.tablename, b.policyname) as object, problem,
       format('drop policy %I on %I.%I  -- until it asks context.verified_id, by context.matches', b.policyname, b.schemaname, b.tablename) as remedy
from beside b
cross join lateral (values
    ('takes the caller from a variable alone, which may change within a statement',
     b.policyname <> b.tablename || '_tenant'
     and b.alone ~* 'organization_id\(\)|context\.variable\(|current_setting\((?!''(?!app\.))'),
    ('takes the caller from an equality with context.required_id alone, in whose place another may come',
     b.policyname <> b.tablename || '_requires_context' and b.alone ~ 'SELECT context\.required_id\('),
    ('asks context.required_id of the rows that a scan found, which tells that there is one',
     b.policyname <> b.tablename || '_requires_context' and b.raises),
    ('asks context.required_id at every row',
     regexp_replace(b.written, '\( SELECT context\.required_id\(CURRENT_USER(, ''\w+''::text)?\) AS required_id\)', '', 'g') ~ 'context\.required_id\(')
) as fault (problem, stands)
where fault.stands
group by b.schemaname, b.tablename, b.policyname, problem
order by 2, 3;
