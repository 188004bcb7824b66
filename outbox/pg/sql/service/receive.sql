-- Receives a command in the participant's transaction.
--   $1 the message's body, $2 external
-- Plan: a function, which writes one row of saga.outcome by its key.
select verdict, input::text, reply::text, $1::jsonb #>> '{saga,id}' as saga, $1::jsonb #>> '{saga,step}' as step,
       $1::jsonb #>> '{saga,operation}' as operation, coalesce($1::jsonb #>> '{saga,element}', '0') as element
  from saga.receive($1::jsonb, $2::boolean);
