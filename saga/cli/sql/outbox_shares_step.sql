-- Takes the steps of a change of the number of shares that can be taken now. Plan: two function calls, in this order.
select outbox.share_lock(), outbox.share_step()
