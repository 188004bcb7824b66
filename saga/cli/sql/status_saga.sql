-- Sagas by definition and state. No parameters. Plan: a scan of the running and the ended sagas.
select definition, state, count(*) as sagas, min(started_at) as oldest_started from saga.instances group by 1, 2 order by 1, 2
