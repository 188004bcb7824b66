-- Asks the relay to publish a parked message again. $1 message id, $2 reason. Gives the intent's id.
select outbox.requeue($1, $2)
