drop table ctx.reporters;
