set local search_path = app;
drop function organization_id(), new_claim_number(), uuid7();
