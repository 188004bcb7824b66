-- How a saga's fan-outs stand: counts of their elements. $1 id. Plan: primary key.
select step, elements, done, in_flight, waiting, failed, stuck, undone, cancelled from saga.fan_outs where saga_id = $1 order by place
