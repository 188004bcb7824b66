-- Sagas by definition: those that run, and what those that ended lately took. $1 how far "lately" reaches back, microseconds; $2 definition
-- or null. Plan: a scan of the running sagas; the index on ended_at of each partition of the ended ones.
with live as (
    select d.name, count(*) as running, count(*) filter (where i.state = 'STUCK') as stuck, count(*) filter (where i.paused) as paused,
           count(*) filter (where i.steps @> '[{"s": "RETRY_WAIT"}]' or i.steps @> '[{"s": "UNDO_RETRY_WAIT"}]') as retrying,
           count(*) filter (where i.state in ('ABORTING', 'COMPENSATING')) as undoing,
           sum(e.in_flight) as elements_in_flight, sum(e.failed) as elements_failed,
           extract(epoch from clock_timestamp() - min(i.started_at))::bigint as oldest_s
      from saga.instance i
      join saga.definition d on d.id = i.definition_id
      left join lateral (select count(*) filter (where u.status ->> 's' in ('READY', 'SENT', 'RETRY_WAIT', 'PROBING', 'UNDO_READY', 'UNDO_SENT', 'UNDO_RETRY_WAIT')) as in_flight,
                                count(*) filter (where u.status ->> 's' in ('FAILED', 'UNKNOWN', 'UNDO_STUCK')) as failed
                           from jsonb_path_query(i.steps, '$[*].e[*]') u (status)) e on i.steps @> '[{"e": []}]' -- fan-outs
     group by d.name
), over as (
    select d.name, count(*) as ended, count(*) filter (where e.state = 'COMPENSATED') as undone,
           percentile_cont(array[0.5, 0.99]) within group (order by extract(epoch from e.ended_at - e.started_at) * 1000) as ms
      from saga.ended e
      join saga.definition d on d.id = e.definition_id
     where e.ended_at > clock_timestamp() - $1::bigint * interval '1 microsecond'
     group by d.name
)
select name as definition, coalesce(live.running, 0) as running, coalesce(live.stuck, 0) as stuck, coalesce(live.paused, 0) as paused,
       coalesce(live.retrying, 0) as retrying, coalesce(live.undoing, 0) as undoing,
       coalesce(live.elements_in_flight, 0)::bigint as elements_in_flight, coalesce(live.elements_failed, 0)::bigint as elements_failed,
       to_json(round(coalesce(over.ended, 0) * 1e6 / $1::bigint, 1)) as ended_per_s,
       to_json(round(coalesce(over.undone, 0) * 1e6 / $1::bigint, 1)) as undone_per_s,
       round(over.ms[1])::bigint as p50_ms, round(over.ms[2])::bigint as p99_ms, live.oldest_s
  from live
  full join over using (name)
 where $2::text is null or name = $2
 order by stuck desc, running desc, name
