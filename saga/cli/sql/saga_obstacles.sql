-- What in a saga's data forbids another version; no row: nothing. $1 saga, $2 the version's definition. Plan: function scan.
select obstacle from saga.migration_obstacles(array[$1::uuid], array[$2::integer])
