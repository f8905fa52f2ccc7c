drop table ctx.keys;
