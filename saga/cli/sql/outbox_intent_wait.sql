-- What became of an intent on a parked message. $1 its id. Plan: primary key.
select answer, null::text from outbox.intent where id = $1 and applied_at is not null
