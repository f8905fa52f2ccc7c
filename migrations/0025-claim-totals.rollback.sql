set local search_path = app;
drop trigger if exists claims_40_totals on claims;
drop trigger if exists claims_40_totals_update on claims;
drop table claim_total_changes;
drop table claim_totals;
