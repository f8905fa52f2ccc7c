-- Lists the users who can read a row, with the policies that let each of them read it (`make who-can-see`), as claims_auditor or as an
-- administrator. table: a table of the schema app; key: the values of its primary key without the organization, separated by spaces.
\set ON_ERROR_STOP on
\set VERBOSITY terse
select * from app.who_can_see(:'table', variadic string_to_array(:'key', ' '));
