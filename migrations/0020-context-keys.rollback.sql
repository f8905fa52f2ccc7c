drop table context.keys;
