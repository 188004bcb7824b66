-- The service `stock`, which is the participants `inventory` and `shipping`.
--
-- A participant is a set of SQL functions that saga-worker runs, each inside the transaction that also records its outcome. A business "no" is
-- saga.fail; anything else that goes wrong is tried again. The worker may execute these functions and touch nothing else of the shop.
begin;

create schema if not exists shop;

create table shop.stock (
    sku     text primary key,
    on_hand integer not null check (on_hand >= 0)
);

create table shop.reservation (
    id   bigint generated always as identity primary key,
    saga uuid not null unique, -- a saga reserves once; the database would say so if it did twice
    sku  text not null references shop.stock,
    qty  integer not null
);

create table shop.shipment (
    id          bigint generated always as identity primary key,
    saga        uuid not null unique,
    reservation bigint not null references shop.reservation,
    payment     bigint not null -- of the service `payments`
);

create function shop.reserve(input jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
    reserved bigint;
begin
    update shop.stock set on_hand = on_hand - (input->>'qty')::integer
     where sku = input->>'sku' and on_hand >= (input->>'qty')::integer;
    if not found then
        perform saga.fail('out_of_stock', format('not enough of %s in stock', input->>'sku'),
                          jsonb_build_object('sku', input->'sku', 'wanted', input->'qty'));
    end if;
    insert into shop.reservation (saga, sku, qty)
    values (current_setting('saga.id')::uuid, input->>'sku', (input->>'qty')::integer) returning id into reserved;
    return jsonb_build_object('reservation', reserved);
end
$$;

-- The undo of shop.reserve: gets its input, and what it returned under "output".
create function shop.release(input jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
    delete from shop.reservation where id = (input #>> '{output,reservation}')::bigint;
    if not found then
        raise exception 'reservation % is not there', input #>> '{output,reservation}';
    end if;
    update shop.stock set on_hand = on_hand + (input->>'qty')::integer where sku = input->>'sku';
    return '{}';
end
$$;

create function shop.book_shipment(input jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
    booked bigint;
begin
    insert into shop.shipment (saga, reservation, payment)
    values (current_setting('saga.id')::uuid, (input->>'reservation')::bigint, (input->>'payment')::bigint)
    returning id into booked;
    return jsonb_build_object('shipment', booked);
end
$$;

-- `lock` names what a batch is sorted by, so that two workers never wait for each other in a circle.
select saga.handle('inventory.reserve', 'shop.reserve', lock => '$.sku');
select saga.handle('inventory.release', 'shop.release', lock => '$.sku');
select saga.handle('shipping.book', 'shop.book_shipment');

-- One article in 10 is nearly sold out.
insert into shop.stock (sku, on_hand) select 'A' || n, case when n % 10 = 4 then 20 else 1000 end from generate_series(1, 20) n;

-- What was there before the first order, for the balance at the end.
create table shop.pieces_before as select sum(on_hand) as pieces from shop.stock;

commit;
