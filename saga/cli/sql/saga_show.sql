-- One saga, all that is known of it. $1 id. Plan: primary key.
select id, definition, version, key, state, phase, reason, paused, cancel_requested, started_at, ended_at, deadline_at, wake_at, revision,
       input, outputs, errors
  from saga.instances where id = $1
