-- The service `payments`, which is the participants `fraud` and `payment`.
begin;

create schema if not exists shop;

create table shop.customer (
    id      integer primary key,
    name    text not null,
    balance numeric(12, 2) not null check (balance >= 0),
    flagged boolean not null default false -- refused as fraud
);

create table shop.payment (
    id          bigint generated always as identity primary key,
    saga        uuid not null unique,
    customer    integer not null references shop.customer,
    amount      numeric(12, 2) not null,
    reservation bigint not null -- of the service `stock`
);

create function shop.check_fraud(input jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
    if (select flagged from shop.customer where id = (input->>'customer')::integer) then
        perform saga.fail('fraud', format('customer %s is refused', input->>'customer'));
    end if;
    return '{"score": 0.02}';
end
$$;

create function shop.capture(input jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
    paid bigint;
begin
    update shop.customer set balance = balance - (input->>'amount')::numeric
     where id = (input->>'customer')::integer and balance >= (input->>'amount')::numeric;
    if not found then
        perform saga.fail('insufficient_funds', format('customer %s cannot pay %s', input->>'customer', input->>'amount'));
    end if;
    insert into shop.payment (saga, customer, amount, reservation)
    values (current_setting('saga.id')::uuid, (input->>'customer')::integer, (input->>'amount')::numeric,
            (input->>'reservation')::bigint)
    returning id into paid;
    return jsonb_build_object('payment', paid);
end
$$;

select saga.handle('fraud.check', 'shop.check_fraud');
select saga.handle('payment.capture', 'shop.capture', lock => '$.customer');

-- One customer in 20 is refused as fraud, one in 10 has almost no money.
insert into shop.customer (id, name, balance, flagged)
select n, 'Customer ' || n, case when n % 10 = 3 then 25.00 else 5000.00 end, n % 20 = 7
  from generate_series(1, 100) n;

-- What was there before the first order, for the balance at the end.
create table shop.money_before as select sum(balance) as money from shop.customer;

commit;
