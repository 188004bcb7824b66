-- The shares that a relay owns, and the queue that it holds in RabbitMQ for each (outbox/relay/ownership/fence.h). No parameters. Plan: a row per share.
select p.share::text as share, format('outbox.relay.%s.%s.%s', p.system_identifier, p.database_oid::bigint, p.share) as queue
  from outbox.position p
  join outbox.status s on s.share = p.share
 where s.owned
 order by p.share
