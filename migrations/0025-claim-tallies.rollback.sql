set local search_path = app;
drop trigger if exists claims_40_tally on claims;
drop trigger if exists claims_40_tally_again on claims;
drop table claim_tally_changes;
drop table claim_tallies;
