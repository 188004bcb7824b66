-- The order saga: reserve stock and check for fraud at the same time, then take the money, then ship.
--
--   reserve ─┐
--            ├─> capture (the pivot: from here on the order goes through) ─> ship (tried until it works)
--   fraud ───┘
--
-- Out of stock, refused as fraud, or no money: what was reserved is released again. Run it again after a change: the next version is
-- published, and running orders keep theirs.
begin;

select saga.define('order', timeout => '15 min');
select saga.step('order', 'reserve', action => 'inventory.reserve', undo => 'inventory.release',
                 input => '{"sku": "$.input.sku", "qty": "$.input.qty"}');
select saga.step('order', 'fraud', action => 'fraud.check', kind => 'read_only',
                 input => '{"customer": "$.input.customer", "total": "$.input.total"}');
select saga.step('order', 'capture', action => 'payment.capture', kind => 'pivot', after => '{reserve,fraud}',
                 input => '{"customer": "$.input.customer", "amount": "$.input.total", "reservation": "$.steps.reserve.reservation"}',
                 timeout => '10s', retry => saga.retry_policy(max => 5, base => '200ms', factor => 2, cap => '30s'));
select saga.step('order', 'ship', action => 'shipping.book', kind => 'retriable', after => '{capture}',
                 input => '{"reservation": "$.steps.reserve.reservation", "payment": "$.steps.capture.payment"}');
select version as "order saga, version" from saga.publish('order');

commit;
