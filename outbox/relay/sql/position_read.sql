-- The position of share $1. Plan: one row by its key.
select ctid::text as place, epoch, system_identifier, database_oid::bigint as oid, t1::text as snapshot1, t2::text as snapshot2, last_id,
       bound
  from outbox.position
 where share = $1::integer;
