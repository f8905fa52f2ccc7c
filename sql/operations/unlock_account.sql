-- An operator's act: gives an account (email) its tries to log in back, before the five minutes of the throttle are over. The trail of each
-- organization that the email is a member of has it. Ends with an error where there is none.
\set ON_ERROR_STOP on
select auth.unlock(:'email') as done \gset
\echo :email may log in again
