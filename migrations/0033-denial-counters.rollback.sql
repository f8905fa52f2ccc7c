drop table auth.denial_counters;
