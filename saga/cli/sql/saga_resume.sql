-- Records that somebody wants this of a saga; the worker decides. $1 saga, $2 reason. The intent is the newest of its kind.
select saga.resume($1, $2)
