-- Sagas: workers, handlers, what is stuck. No parameters. Gives (subject, verdict, finding, advice). Plan: small tables, and a scan of the running sagas.
select 'workers', case when count(*) = 0 then 'fail' else 'ok' end,
       case when count(*) = 0 then 'no saga-worker is connected to this database' else format('%s connections', count(*)) end, 'start saga-worker'
  from pg_stat_activity where application_name like 'saga-worker%' and datname = current_database()
union all
select 'stuck sagas', case when count(*) > 0 then 'warn' else 'ok' end, format('%s', count(*)),
       'sagapost saga list --state STUCK, then show, retry or cancel'
  from saga.instance where state = 'STUCK'
union all
select 'late timers', case when count(*) > 0 then 'warn' else 'ok' end, format('%s sagas are due for more than 10 s', count(*)),
       'no worker with the role orchestrate keeps up'
  from saga.instance where wake_at < clock_timestamp() - interval '10 s' and not paused
union all
select 'handler of ' || h.action, case when able.name is null then 'fail' else 'ok' end,
       case when p.oid is null then format('there is no function %s any more', h.function)
            when able.name is null then format('no member of sagapost_worker may execute %s', h.function) else h.function end,
       case when p.oid is null then format('make it again, or register another with saga.handle(%L, ...)', h.action)
            else format('grant execute on function %s to the worker''s role, and usage on its schema', h.function) end
  from saga.handler h
  -- by its name in the catalogue: to_regprocedure() fails where the role that looks has no right to the schema
  left join lateral (select f.oid from pg_proc f join pg_namespace n on n.oid = f.pronamespace
                      where f.pronargs = 1 and f.proargtypes[0] = 'jsonb'::regtype and format('%I.%I(jsonb)', n.nspname, f.proname) = h.function) p on true
  left join lateral (select r.rolname as name from pg_roles r
                      where (r.rolsuper or pg_has_role(r.oid, 'sagapost_worker', 'usage'))
                        and r.rolcanlogin and has_function_privilege(r.oid, p.oid, 'execute') limit 1) able on true
