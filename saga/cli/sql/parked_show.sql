-- One message set aside, with its payload. $1 message id. Plan: a scan of outbox.parked, which is small.
select message_id, share, id as log_id, state, reason, detail, attempts, created_at, parked_at, next_attempt_at, type, key, exchange,
       routing_key, headers, content_type, correlation_id, reply_to, mandatory, payload,
       case when payload_bytes is not null then encode(payload_bytes, 'base64') end as payload_base64
  from outbox.parked
 where message_id = $1
