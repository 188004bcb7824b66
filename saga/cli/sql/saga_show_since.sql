-- Since when a saga is in its state. $1 id, $2 state. Plan: the history's primary key.
select max(at) as at from saga.history where saga_id = $1 and step is null and event in (lower($2), case $2 when 'RUNNING' then 'started' end)
