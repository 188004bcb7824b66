-- The participants: SQL functions that saga-worker runs, each inside the transaction that also records its outcome. A business "no" is
-- saga.fail; anything else that goes wrong is tried again. The worker may execute these functions and touch nothing else of the shop.
begin;

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
select saga.handle('fraud.check', 'shop.check_fraud');
select saga.handle('payment.capture', 'shop.capture', lock => '$.customer');
select saga.handle('shipping.book', 'shop.book_shipment');

commit;
