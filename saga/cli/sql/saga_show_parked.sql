-- What RabbitMQ does not take of a saga's commands and replies, the newest first. $1 id, as text. Plan: a scan of outbox.parked, which is small.
select routing_key, state, reason, attempts, next_attempt_at, detail, message_id
  from outbox.parked
 where correlation_id = $1 and exchange in ('saga.commands', 'saga.replies')
 order by id desc
 limit 5
