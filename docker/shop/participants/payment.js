// payment.js: takes the money for the order saga: the action payment.capture, in Node with pg and amqplib (package.json).
//
// PGHOST, PGDATABASE, PGUSER ... say where the database is, AMQP_URI where RabbitMQ is. A connection that is lost ends the program, with its
// commands unacknowledged: whoever keeps it running starts it again, and RabbitMQ delivers them again.
const amqp = require("amqplib");
const { Client } = require("pg");

const TRIES = 5;

// The work: as if nothing of Sagapost were there. `order` is JSON; PostgreSQL reads its numbers exactly, JSON.parse would not.
async function capture(database, command, order) {
  const paid = await database.query(
    `update shop.customer set balance = balance - ($1::jsonb ->> 'amount')::numeric
      where id = ($1::jsonb ->> 'customer')::integer and balance >= ($1::jsonb ->> 'amount')::numeric`, [order]);
  if (paid.rowCount === 0) return ["failed", { code: "insufficient_funds", message: "the customer cannot pay" }];
  const { rows } = await database.query(
    `insert into shop.payment (saga, customer, amount, reservation)
     select ($2::jsonb #>> '{saga,id}')::uuid, customer, amount, reservation
       from jsonb_to_record($1::jsonb) as o (customer integer, amount numeric, reservation bigint) returning id`, [order, command]);
  return ["ok", { payment: Number(rows[0].id) }];
}

async function carryOut(database, command) {
  const { rows } = await database.query("select verdict, input::text from saga.receive($1)", [command]);
  if (rows[0].verdict !== "execute") return; // it is answered already
  await database.query("savepoint work");
  const [outcome, output] = await capture(database, command, rows[0].input);
  if (outcome !== "ok") await database.query("rollback to work");
  await database.query("select saga.reply($1, $2, $3)", [command, outcome, JSON.stringify(output)]);
}

async function inTransaction(database, work) {
  await database.query("begin");
  try {
    await work();
  } catch (why) {
    await database.query("rollback");
    throw why;
  }
  // Outside of the try: where COMMIT's answer is lost so is the connection, and with it the program: no acknowledgement.
  await database.query("commit");
}

async function main() {
  const database = new Client();
  const end = (why) => { console.error(why); process.exit(1); };
  database.on("error", end);
  await database.connect();
  const broker = await amqp.connect(process.env.AMQP_URI);
  broker.on("error", end).on("close", end);
  const channel = await broker.createChannel();
  await channel.prefetch(10);

  let last = Promise.resolve(); // one connection: one command after the other
  async function take(message) {
    const command = message.content.toString();
    let problem;
    for (let attempt = 0; attempt <= TRIES; attempt++) {
      try {
        await inTransaction(database, () => attempt < TRIES ? carryOut(database, command)
          : database.query("select saga.reply($1, 'transient', $2)", [command, JSON.stringify({ code: "given_up", message: String(problem) })]));
        return channel.ack(message); // only now
      } catch (why) {
        problem = why;
        await new Promise((resolve) => setTimeout(resolve, 100 * attempt));
      }
    }
    return channel.nack(message, false, false); // nobody can read it: to the queue saga.dead
  }
  await channel.consume("saga.commands.payment", (message) => { last = last.then(() => take(message)).catch(end); });
}

main().catch((why) => { console.error(why); process.exit(1); });
