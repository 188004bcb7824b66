-- Moves the position of share $2, of epoch $3, to t1 $4, t2 $5, last id $6; highest id settled by this $7; bound of t1 $8.
-- The row is found where this relay left it ($1), since by key one would walk all versions that somebody's old snapshot keeps alive.
-- When it is not there, or has another epoch, this fails with 22012 (division by zero): in a group of statements that undoes the others.
-- Plan: TID scan of one row.
with moved as (
    update outbox.position
       set t1 = $4::pg_snapshot, t2 = $5::pg_snapshot, last_id = $6::bigint, last_id_ever = greatest(last_id_ever, $7::bigint),
           bound = $8::bigint, updated_at = pg_catalog.clock_timestamp()
     where ctid = $1::tid and share = $2::integer and epoch = $3::bigint
    returning ctid::text as place, pg_catalog.pg_current_xact_id()::text as xact
)
select (select place from moved) as place, (select xact from moved) as xact, 1 / (select count(*) from moved) as moved;
