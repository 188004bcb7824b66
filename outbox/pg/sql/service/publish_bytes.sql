-- Publishes bytes in the caller's transaction; returns the message id.
--   $1 type, $2 payload, $3 key, $4 exchange, $5 routing_key, $6 headers, $7 message_id, $8 mandatory, $9 serialize, $10 correlation_id,
--   $11 reply_to, $12 content_type
-- Plan: a function, which inserts one row.
select outbox.publish_bytes(type => $1::text, payload => $2::bytea, key => $3::text, exchange => $4::text, routing_key => $5::text,
                            headers => coalesce($6::jsonb, '{}'), message_id => $7::uuid, mandatory => $8::boolean,
                            serialize => $9::boolean, correlation_id => $10::text, reply_to => $11::text,
                            content_type => $12::text)::text;
