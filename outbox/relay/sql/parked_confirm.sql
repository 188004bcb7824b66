-- Parked rows of share $1 that the broker has confirmed: ids $2. Plan: the key of outbox.parked, for each.
delete from outbox.parked where share = $1::integer and id = any ($2::bigint[]);
