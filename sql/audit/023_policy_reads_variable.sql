-- A policy that takes the caller from what may change while a statement runs, so that the next row is judged by another. A variable may:
-- only ctx.verified (and ctx.entered, which raises) checks and reads in one, so ctx.same must stand beside every variable, on the same column and for the same id.
-- So may a plain equality, even one with ctx.entered: the planner keeps one of several on a column, and an injected one may take its
-- place, while ctx.same decides at every row. <table>_tenant and <table>_entered may be what they are, since
-- 022 holds <table>_signed beside them. ctx.entered is to be asked once a statement, in a select of its own: at every row it would cost
-- two hashes, and could be asked of another context. What a policy asks of rows that a scan found must be ctx.verified: ctx.entered raises,
-- and where the context was changed after the scan began, that tells that there is a row.
with rule as (
    select p.schemaname, p.tablename, p.policyname, e.of_found_rows and e.expression ~ 'ctx\.entered\(' as raises,
           replace(regexp_replace(e.expression, '\s+', ' ', 'g'), 'verified', 'entered') as written
    from pg_policies p, (values (true), (false)) as k (of_found_rows),
         lateral (select k.of_found_rows, case when k.of_found_rows then p.qual else p.with_check end as expression) as e
    where p.schemaname = 'app' and e.expression is not null
),
beside as (  -- without what stands beside a ctx.same, and without what decides at every row
    select r.*, regexp_replace(
        regexp_replace(r.written, '\(([\w.]+) = (?:ctx\.variable\(''|\(current_setting\(''app\.)(\w+)''::text\)(?:\)::uuid)?\)'
            ' AND (ctx\.same\(\1, \( SELECT ctx\.entered\(CURRENT_USER, ''\2''::text\) AS entered\)\))', '\3', 'g'),
        'ctx\.same\([\w.]+, \( SELECT ctx\.entered\(CURRENT_USER(, ''\w+''::text)?\) AS entered\)\)'
        '|\( SELECT ctx\.entered\(CURRENT_USER, ''\w+''::text\) AS entered\) IS NOT NULL', '', 'g') as alone
    from rule r
)
select '023 policy reads variable' as check,
       format('%I.%I: %I', b.schemaname, b.tablename, b.policyname) as object, problem,
       format('drop policy %I on %I.%I  -- until it asks ctx.verified, by ctx.same', b.policyname, b.schemaname, b.tablename) as remedy
from beside b
cross join lateral (values
    ('takes the caller from a variable alone, which may change within a statement',
     b.policyname <> b.tablename || '_tenant'
     and b.alone ~* 'organization_id\(\)|ctx\.variable\(|current_setting\((?!''(?!app\.))'),
    ('takes the caller from an equality with ctx.entered alone, in whose place another may come',
     b.policyname <> b.tablename || '_entered' and b.alone ~ 'SELECT ctx\.entered\('),
    ('asks ctx.entered of the rows that a scan found, which tells that there is one',
     b.policyname <> b.tablename || '_entered' and b.raises),
    ('asks ctx.entered at every row',
     regexp_replace(b.written, '\( SELECT ctx\.entered\(CURRENT_USER(, ''\w+''::text)?\) AS entered\)', '', 'g') ~ 'ctx\.entered\(')
) as fault (problem, stands)
where fault.stands
group by b.schemaname, b.tablename, b.policyname, problem
order by 2, 3;
