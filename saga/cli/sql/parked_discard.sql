-- Asks the relay to give a parked message up. $1 message id, $2 reason. Gives the intent's id.
select outbox.discard($1, $2)
