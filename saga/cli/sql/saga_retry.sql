-- Records that somebody wants a step, or all that is stuck, tried again. $1 saga, $2 step or null, $3 reason.
select saga.retry($1, $2, $3)
