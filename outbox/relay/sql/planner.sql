-- How this connection plans: every statement here has one good plan, an index for each step of a nested loop, and plans made while a leaf
-- was empty, or with old statistics, must not become another. Generic plans: a look for new rows would cost more to plan than to run.
-- Plan: constants.
select pg_catalog.set_config('enable_sort', 'off', false), pg_catalog.set_config('enable_seqscan', 'off', false),
       pg_catalog.set_config('enable_bitmapscan', 'off', false), pg_catalog.set_config('enable_mergejoin', 'off', false),
       pg_catalog.set_config('enable_hashjoin', 'off', false), pg_catalog.set_config('jit', 'off', false),
       pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', false);
