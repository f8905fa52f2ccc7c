-- A date of birth up to today by the organization's calendar, which app.check_patient compares. The constraint compared the day of the
-- session's time zone: it refused a birth of today in Auckland, and accepted one of tomorrow in Honolulu.
set local search_path = app;
alter table patients
    drop constraint patients_date_of_birth_check,
    add constraint patients_date_of_birth_check check (date_of_birth >= '1875-01-01') not valid;
