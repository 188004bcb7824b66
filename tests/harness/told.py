"""A participant that does as it is told: handlers in SQL whose behaviour a test sets, and a record of what took effect."""

from .wait import wait_until

SCHEMA = """
create schema told;

-- What took effect, in its order. An effect that happens twice breaks the constraint, and the saga gets stuck.
create table told.effect (
    id        bigint generated always as identity primary key,
    saga      uuid not null,
    step      text not null,
    operation text not null,
    attempt   integer not null,
    input     jsonb not null,
    unique (saga, step, operation)
);

-- The first `times` calls raise. Calls are counted by a sequence, since what a call that raises writes is rolled back.
create table told.behaviour (
    step      text not null,
    operation text not null,
    state     text not null,
    times     bigint not null,
    primary key (step, operation)
);

create function told.run(input jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
    my_step      text := current_setting('saga.step');
    my_operation text := current_setting('saga.operation');
    how          told.behaviour;
begin
    select b.* into how from told.behaviour b where b.step = my_step and b.operation = my_operation;
    if found and nextval(format('told.%I', 'calls_' || my_step || '_' || my_operation)) <= how.times then
        if how.state = 'SG001' then
            perform saga.fail('told', 'to fail', '{"told": true}');
        end if;
        raise exception using errcode = how.state, message = 'as told';
    end if;
    insert into told.effect (saga, step, operation, attempt, input)
    values (current_setting('saga.id')::uuid, my_step, my_operation, current_setting('saga.attempt')::integer, input);
    return jsonb_build_object('did', my_step, 'input', input);
end
$$;
"""

ENDED = ("SUCCEEDED", "COMPENSATED", "CLOSED")
QUICK = "saga.retry_policy(max => 4, base => '50ms', factor => 2, cap => '200ms', jitter => false)"


class Told:
    """The participants `told` (SQL handlers) in a test's database, and the sagas made of them."""

    def __init__(self, place):
        self.place = place
        place.sql(SCHEMA)
        for verb in ("act", "undo"):
            place.sql("select saga.handle(%s, 'told.run')", (f"told.{verb}",))

    def behave(self, step, operation, state, times=1_000_000):
        """The first `times` calls raise SQLSTATE `state`; again with other times: counted on."""
        self.place.sql(f"create sequence if not exists told.calls_{step}_{operation}")
        self.place.sql(
            "insert into told.behaviour values (%s, %s, %s, %s) on conflict (step, operation) do update set state = excluded.state, times = excluded.times",
            (step, operation, state, times),
        )

    def forget(self):
        """As if nobody had been told to do anything: for the next test with the same tables."""
        self.place.sql(
            "delete from told.behaviour; do $$ begin execute (select coalesce('drop sequence ' || string_agg(format('told.%I', sequencename), ', '), '')"
            " from pg_sequences where schemaname = 'told' and sequencename like 'calls\\_%'); end $$"
        )

    def calls(self, step, operation):
        last, called = self.place.sql(f"select last_value, is_called from told.calls_{step}_{operation}")[0]
        return last if called else 0

    def define(self, name, steps, **options):
        """steps: (name, kind, after, more named arguments as SQL)."""
        given = "".join(f", {key} => {value}" for key, value in options.items())
        statements = [f"select saga.define('{name}'{given})"]
        for step, kind, after, *more in steps:
            # A timeout that no machine is too slow for: a test that wants one to pass names its own.
            named = {"action": "'told.act'", "kind": f"'{kind}'", "after": f"'{{{after}}}'", "timeout": "'2min'", "retry": QUICK}
            if kind == "compensable":
                named.update({"undo": "'told.undo'", "undo_retry": QUICK})
            named.update(more[0] if more else {})
            arguments = ", ".join(f"{key} => {value}" for key, value in named.items())
            statements.append(f"select saga.step('{name}', '{step}', {arguments})")
        statements.append(f"select saga.publish('{name}')")
        self.place.sql(";".join(statements))

    def start(self, name, given="{}", key=None):
        return self.place.value("select saga.start(%s, %s::jsonb, %s)", (name, given, key))

    def state(self, saga):
        return self.place.value("select state from saga.instances where id = %s", (saga,))

    def state_or_none(self, saga):
        rows = self.place.sql("select state from saga.instances where id = %s", (saga,))
        return rows[0][0] if rows else None

    def wait_state(self, saga, *states, limit_s=60):
        """Until the saga is in one of them, which it returns."""
        return wait_until(lambda: self.state(saga) in states and self.state(saga), limit_s, lambda: f"{states}:\n{self.show(saga)}")

    def end(self, saga):
        """Waits for its end; returns the state in which it ended."""
        return self.wait_state(saga, *ENDED)

    def column(self, saga, name):
        return self.place.value(f"select {name} from saga.instances where id = %s", (saga,))

    def steps(self, saga):
        return dict(self.place.sql("select step, state from saga.steps where saga_id = %s", (saga,)))

    def effects(self, saga):
        """Names of what took effect, in order; undos as -name."""
        rows = self.place.sql("select step, operation from told.effect where saga = %s order by id", (saga,))
        return [step if operation == "action" else f"-{step}" for step, operation in rows]

    def show(self, saga):
        rows = self.place.sql("select at, event, step, detail from saga.timeline where saga_id = %s order by id", (saga,))
        return f"{self.state(saga)} {self.column(saga, 'reason')} {self.steps(saga)}\n" + "\n".join(map(str, rows))
