-- Publishes what happened to sagas whose definition asks for events. Not mandatory: nobody listening is no error. The saga's id is the
-- key, so that who listens gets the events of a saga in order.
--
-- $1 uuid[] saga    $2 text[] definition    $3 integer[] version    $4 text[] event    $5 text[] reason
--
-- Plan: function scan of unnest.
select count(outbox.publish(
           type => 'saga.' || n.event,
           payload => jsonb_strip_nulls(jsonb_build_object(
               'saga', jsonb_build_object('id', n.saga_id, 'definition', n.definition, 'version', n.version),
               'event', n.event, 'reason', n.reason)),
           key => n.saga_id::text,
           exchange => 'saga.events',
           routing_key => n.definition || '.' || n.event,
           mandatory => false)) as published
from unnest($1, $2, $3, $4, $5) n (saga_id, definition, version, event, reason);
