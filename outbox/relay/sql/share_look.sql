-- Whether another number of shares is wanted. Plan: the one row of outbox.share_change.
select wanted is not null as wanted from outbox.share_change;
