set local search_path = app;
alter table patients
    drop constraint patients_date_of_birth_check,
    add constraint patients_date_of_birth_check check (date_of_birth between '1875-01-01' and current_date) not valid;
