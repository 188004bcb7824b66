-- 100 customers, 20 articles. One customer in 20 is refused as fraud, one in 10 has almost no money, and one article in 10 is nearly sold out.
begin;

insert into shop.customer (id, name, balance, flagged)
select n, 'Customer ' || n, case when n % 10 = 3 then 25.00 else 5000.00 end, n % 20 = 7
  from generate_series(1, 100) n;

insert into shop.stock (sku, on_hand, price)
select 'A' || n, case when n % 10 = 4 then 20 else 1000 end, 9.90 + n
  from generate_series(1, 20) n;

-- What was there before the first order, for the balance at the end.
create table shop.opening as
select (select sum(on_hand) from shop.stock) as pieces, (select sum(balance) from shop.customer) as money;

commit;
