-- Resets the login throttle of an account (email) before its five minutes are over. The audit log of each organization of the account
-- gets an entry. Fails if no user has the email.
\set ON_ERROR_STOP on
select auth.unlock(:'email') as result \gset
\echo :email may log in again
