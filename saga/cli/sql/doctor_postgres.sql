-- What of the server matters to Sagapost. $1 this machine's clock, microseconds since 1970. Gives (subject, verdict, finding, advice); verdict: ok, warn, fail.
-- Plan: settings and the catalogue.
select 'server version', case when current_setting('server_version_num')::integer >= 140000 then 'ok' else 'fail' end,
       'PostgreSQL ' || current_setting('server_version'), 'version 14 or newer is needed'
union all
select 'primary', case when pg_is_in_recovery() then 'fail' else 'ok' end,
       case when pg_is_in_recovery() then 'this server is a standby' else 'this server takes writes' end,
       'the relay and the workers need the primary: name all hosts in the connection string'
union all
select name, case when setting = 'on' then 'ok' else 'fail' end, name || ' = ' || setting,
       'a crash can lose what was committed, and with it published messages'' rows: set it to on'
  from pg_settings where name in ('fsync', 'full_page_writes')
union all
select name, case when setting = 'off' then 'warn' else 'ok' end, name || ' = ' || setting,
       'a crash takes back the last commits; the relay waits for the flush, so nothing false is published, but the service believes they were kept'
  from pg_settings where name = 'synchronous_commit'
union all
select name, case when setting = 'minimal' then 'warn' else 'ok' end, name || ' = ' || setting,
       'no standby can follow; replica or logical is needed for that'
  from pg_settings where name = 'wal_level'
union all
select 'connections', case when used > 0.9 * most then 'warn' else 'ok' end, format('%s of %s in use', used, most),
       'raise max_connections, or put a pooler before the services (not before the relay: it holds session locks)'
  from (select count(*) as used, current_setting('max_connections')::integer as most from pg_stat_activity where backend_type = 'client backend') c
union all
select 'clocks', case when abs(seconds) > 1 then 'warn' else 'ok' end,
       format('this machine and PostgreSQL differ by %s s', round(seconds::numeric, 3)),
       'timers go by the database; message ids and logs by the machine that writes them: run a time service'
  from (select $1::bigint / 1e6 - extract(epoch from clock_timestamp()) as seconds) d
union all
select 'long transactions', case when oldest > interval '5 min' then 'warn' else 'ok' end,
       coalesce('the oldest open transaction has run for ' || date_trunc('second', oldest)::text, 'no transaction is open for long'),
       'its own messages wait, and the ring cannot be emptied past it: look at pg_stat_activity'
  from (select max(clock_timestamp() - xact_start) as oldest from pg_stat_activity
         where backend_xid is not null and backend_type = 'client backend') o
union all
select 'prepared transactions', case when oldest > interval '5 min' then 'warn' else 'ok' end,
       case when number = 0 then 'none' else format('%s prepared, the oldest for %s', number, date_trunc('second', oldest)) end,
       'somebody has to commit or roll it back: look at pg_prepared_xacts'
  from (select count(*) as number, clock_timestamp() - min(prepared) as oldest from pg_prepared_xacts) p
