-- The books after the last order: one row per rule, `holds` says whether it does. Where the services have databases of their own, books.sh
-- brings their tables together first.
with sagas as (
    select o.*, i.state from shop.orders o join saga.instances i on i.id = o.saga
), now_there as (
    select (select sum(on_hand) from shop.stock) as on_hand,
           (select coalesce(sum(qty), 0) from shop.reservation) as reserved,
           (select sum(balance) from shop.customer) as balances,
           (select coalesce(sum(amount), 0) from shop.payment) as paid
)
select rule, expected, found, expected = found as holds
  from (
    select 1, 'every saga has ended', (select count(*) from sagas)::text,
           (select count(*) from sagas where state in ('SUCCEEDED', 'COMPENSATED'))::text
    union all
    select 2, 'pieces: before = in stock + sold', pieces::text, (on_hand + reserved)::text from shop.pieces_before, now_there
    union all
    select 3, 'money: before = with customers + paid', money::text, (balances + paid)::text from shop.money_before, now_there
    union all
    select 4, 'pieces sold = pieces of the orders that succeeded',
           (select coalesce(sum(qty), 0) from sagas where state = 'SUCCEEDED')::text, reserved::text from now_there
    union all
    select 5, 'money paid = totals of the orders that succeeded',
           (select coalesce(sum(total), 0) from sagas where state = 'SUCCEEDED')::text, paid::text from now_there
    union all
    select 6, 'one payment and one shipment for each that succeeded',
           (select count(*) from sagas where state = 'SUCCEEDED')::text,
           (select count(*) from sagas s join shop.payment p on p.saga = s.saga join shop.shipment d on d.saga = s.saga
             where s.state = 'SUCCEEDED')::text
    union all
    select 7, 'nothing paid, shipped or reserved for those compensated', '0',
           (select count(*) from sagas s where state = 'COMPENSATED'
               and (exists (select from shop.payment p where p.saga = s.saga)
                 or exists (select from shop.shipment d where d.saga = s.saga)
                 or exists (select from shop.reservation r where r.saga = s.saga)))::text
  ) as checks (number, rule, expected, found)
 order by number;
