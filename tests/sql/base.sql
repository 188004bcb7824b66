-- Schemas, roles, PUBLIC, search paths, UUIDv7.
select plan(18);

select has_schema('outbox');
select has_schema('inbox');
select has_schema('saga');

select ok(bool_and(exists (select from pg_roles where rolname = wanted and not rolcanlogin and not rolsuper)), 'the seven roles exist and cannot log in')
  from unnest(array['sagapost_writer', 'sagapost_relay', 'sagapost_worker', 'sagapost_definer', 'sagapost_participant', 'sagapost_operator',
                    'sagapost_reader']) as wanted;

-- Nothing to PUBLIC: neither schemas, relations, columns, functions nor types that were made here.
select is_empty($$ select nspname from pg_namespace, aclexplode(nspacl) as a
                    where nspname in ('outbox', 'inbox', 'saga') and a.grantee = 0 $$, 'PUBLIC has nothing on the schemas');
select is_empty($$ select c.oid::regclass from pg_class as c, aclexplode(c.relacl) as a
                    where c.relnamespace in ('outbox'::regnamespace, 'inbox'::regnamespace, 'saga'::regnamespace) and a.grantee = 0 $$,
                'PUBLIC has nothing on the relations');
select is_empty($$ select p.oid::regprocedure from pg_proc as p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
                    where p.pronamespace in ('outbox'::regnamespace, 'inbox'::regnamespace, 'saga'::regnamespace) and a.grantee = 0 $$,
                'PUBLIC may execute no function');
select is_empty($$ select p.oid::regprocedure from pg_proc as p
                    where p.pronamespace in ('outbox'::regnamespace, 'inbox'::regnamespace, 'saga'::regnamespace) and p.prosecdef
                      and not exists (select from unnest(p.proconfig) as c where c like 'search\_path=%') $$,
                'every SECURITY DEFINER function pins its search path');

-- UUIDv7.
create temporary table ids as
select n, outbox.uuid_v7() as id, clock_timestamp() as at from generate_series(1, 2000) as n;
select is(count(distinct id)::integer, 2000, 'ids differ') from ids;
select ok(bool_and(substr(id::text, 15, 1) = '7'), 'version 7') from ids;
select ok(bool_and(substr(id::text, 20, 1) in ('8', '9', 'a', 'b')), 'variant 10') from ids;
select ok(bool_and(abs(('x' || lpad(substr(replace(id::text, '-', ''), 1, 12), 16, '0'))::bit(64)::bigint - extract(epoch from at) * 1000) < 2000),
          'the first 48 bits are the time in milliseconds') from ids;
select ok(count(distinct substr(id::text, 16, 3)) > 500 and count(distinct substr(id::text, 25, 12)) = 2000, 'the rest is random') from ids;

create temporary table sorted (n integer, id uuid);
do $$
declare
    made_at timestamptz;
begin
    for n in 1 .. 20 loop
        insert into sorted values (n, outbox.uuid_v7());
        made_at := clock_timestamp();
        while clock_timestamp() < made_at + interval '2 ms' loop
        end loop;
    end loop;
end
$$;
select results_eq('select n from sorted order by id', 'select generate_series(1, 20)', 'ids of different milliseconds sort by time');

-- PostgreSQL 16 and 17 took these words for themselves: no function's parameter may have one of them for a name any more ("SQL Key Words" in
-- its manual, those that cannot be the name of a function or a type).
select is_empty(
    $$ select p.oid::regprocedure, named
       from pg_proc as p, unnest(p.proargnames) as named
       where p.pronamespace in ('outbox'::regnamespace, 'inbox'::regnamespace, 'saga'::regnamespace)
         and named in ('json', 'json_array', 'json_arrayagg', 'json_exists', 'json_object', 'json_objectagg', 'json_query', 'json_scalar',
                       'json_serialize', 'json_table', 'json_value', 'merge_action', 'system_user') $$,
    'no parameter has a name that a later PostgreSQL refuses');

-- The record of migrations belongs to sagapost migrate; everybody may read it.
select has_table('outbox', 'migration', 'outbox.migration');
select col_is_pk('outbox', 'migration', 'number', 'a migration is applied once');
select ok(has_table_privilege('sagapost_reader', 'outbox.migration', 'select'), 'a reader reads which migrations were applied');

select * from finish();
