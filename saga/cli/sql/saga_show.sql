-- One saga, all that is known of it. $1 id. Plan: primary key.
select * from saga.instances where id = $1
