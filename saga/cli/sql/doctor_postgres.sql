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
select 'long transactions', case when oldest.lasts > interval '5 min' then 'warn' else 'ok' end,
       case when oldest.pid is not null
            then format('the oldest that writes has run for %s: pid %s, user %s, %s, %s', date_trunc('second', oldest.lasts), oldest.pid, oldest.usename,
                        case when oldest.application_name = '' then 'no application name' else oldest.application_name end, oldest.state)
            when hidden.number > 0 then format('%s write, and since when this role may not see: grant it pg_read_all_stats', hidden.number)
            else 'none writes' end,
       format('its own messages wait, and the ring cannot be emptied past it: end it where it began, or: select pg_terminate_backend(%s)', oldest.pid)
  from (select count(*) as number from pg_stat_activity where backend_xid is not null and backend_type = 'client backend' and xact_start is null) hidden
  left join (select pid, usename, application_name, state, clock_timestamp() - xact_start as lasts from pg_stat_activity
              where backend_xid is not null and backend_type = 'client backend' and xact_start is not null order by xact_start limit 1) oldest on true
union all
select 'prepared transactions', case when count(*) > 0 and clock_timestamp() - min(prepared) > interval '5 min' then 'warn' else 'ok' end,
       case when count(*) = 0 then 'none'
            else format('%s, the oldest for %s: %s in database %s', count(*), date_trunc('second', clock_timestamp() - min(prepared)),
                        (array_agg(quote_literal(gid) order by prepared))[1], (array_agg(database order by prepared))[1]) end,
       format('somebody has to end it, in its database: commit prepared %1$s, or rollback prepared %1$s', (array_agg(quote_literal(gid) order by prepared))[1])
  from pg_prepared_xacts
union all
select 'replication slots', case when bool_or(is_lost or not active and kept > 1073741824) then 'warn' else 'ok' end,
       case when count(*) = 0 then 'none'
            else format('%s, %s of them with nobody connected; %s keeps %s of WAL', count(*), count(*) filter (where not active),
                        (array_agg(slot_name order by kept desc nulls last))[1], pg_size_pretty(coalesce(max(kept), 0))) end,
       format('it keeps WAL until the disk is full: bring back who reads it, or: select pg_drop_replication_slot(%L)', (array_agg(slot_name order by kept desc nulls last))[1])
  from (select slot_name, active, coalesce(wal_status = 'lost', false) as is_lost,
               pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end, restart_lsn) as kept
          from pg_replication_slots) slot
