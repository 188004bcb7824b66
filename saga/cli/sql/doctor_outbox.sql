-- The outbox: relay, backlog, parked. No parameters. Gives (subject, verdict, finding, advice). Plan: as outbox_status.
select format('relay of share %s', p.share), case when a.pid is null then 'fail' else 'ok' end,
       case when a.pid is null then 'no outbox-relay of it is connected to this database' else format('runs (backend %s, epoch %s)', a.pid, p.epoch) end,
       'start outbox-relay' || case when p.shares > 1 then ' --share ' || p.share else '' end || '; with it running elsewhere, look whether it reaches this database'
  from outbox.position p
  left join lateral (select pid from pg_stat_activity
                      where application_name = 'outbox-relay share ' || p.share and datname = current_database() limit 1) a on true
union all
select format('backlog of share %s', b.share), case when b.oldest_age > interval '1 min' then 'warn' else 'ok' end,
       format('%s rows, the oldest %s s old', b.rows, round(extract(epoch from b.oldest_age)::numeric, 1)),
       'the relay does not keep up, or cannot publish: its log says why'
  from outbox.backlog_at_most(100000) b
union all
select 'shares', case when c.wanted is null then 'ok' else 'warn' end,
       format('%s', count(*)) || case when c.wanted is null then '' else format('; %s are wanted since %s', c.wanted, c.asked_at) end,
       'sagapost outbox shares says what the change waits for'
  from outbox.position p cross join outbox.share_change c
 group by c.wanted, c.asked_at
union all
select 'parked messages', case when count(*) filter (where state = 'parked') > 0 then 'warn' else 'ok' end,
       format('%s parked for a person, %s waiting to be tried again, %s behind them', count(*) filter (where state = 'parked'),
              count(*) filter (where state = 'waiting'), count(*) filter (where state = 'behind')),
       'sagapost outbox parked list shows why; requeue or discard them'
  from outbox.parked
union all
select 'identity', case when p.system_identifier = c.system_identifier and p.database_oid = d.oid then 'ok' else 'fail' end,
       format('the position of share %s is of %s', p.share,
              case when p.system_identifier <> c.system_identifier then 'another server'
                   when p.database_oid <> d.oid then 'another database of this server' else 'this server' end),
       'after a restore from a dump: sagapost outbox rebase; in a copy made by the server itself: sagapost outbox rebase --same-xids'
  from outbox.position p, pg_control_system() c, pg_database d
 where d.datname = current_database()
