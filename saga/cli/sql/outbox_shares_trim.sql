-- After a change: writers try the wake-up locks of the shares that there are, and no others. Plan: one function call.
select outbox.trim_wake_up();
