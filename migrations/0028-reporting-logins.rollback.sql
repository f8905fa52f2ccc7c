drop table context.reporting_logins;
