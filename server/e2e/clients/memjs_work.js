// The everyday work of memjs, which speaks the binary protocol: HOST PORT PREFIX. It has
// neither CAS nor a get of many keys: gets are pipelined. Its prepend sends an append, to
// memcached as well.
//
// The test writes a line for each round that it wants and reads one when it is done. What the
// client sees that it should not ends the program.

'use strict';

const assert = require('node:assert');
const crypto = require('node:crypto');
const path = require('node:path');
const readline = require('node:readline');

const [host, port, prefix] = process.argv.slice(2);
const where = path.join(__dirname, '../../../bin/clients/node_modules/memjs'); // by make deps
const memjs = require(where);

const KEPT = 100;
const BIG = 1000000;

// A connection that fails must be seen, not tried again.
const client = () => memjs.Client.create(`${host}:${port}`, {
  retries: 0, timeout: 20, conntimeout: 20, logger: { log: (what) => assert.fail(what) },
});

let a = client();
const b = client();
const kept = new Map();
for (let i = 0; i < KEPT; i++) {
  kept.set(`${prefix}kept${i}`, `value ${i} `.repeat(i + 1));
}

async function value(c, key) {
  const got = (await c.get(key)).value;
  return got === null ? null : got.toString();
}

function big(round) {
  return crypto.createHash('shake256', { outputLength: BIG }).update(String(round)).digest();
}

async function begin() {
  await Promise.all(Array.from(kept, ([k, v]) => a.set(k, v)));
}

async function stores(round) {
  const key = prefix + 'key';
  const lock = prefix + 'lock';
  assert.strictEqual(await a.set(key, `round ${round}`, { expires: 1000 }), true, 'set');
  assert.strictEqual(await value(b, key), `round ${round}`, 'get');
  assert.strictEqual(await a.append(key, '!'), true, 'append');
  assert.strictEqual(await value(b, key), `round ${round}!`, 'what was appended to');
  assert.strictEqual(await a.touch(key, 2000), true, 'touch');
  assert.strictEqual(await a.add(lock, 'mine', { expires: 60 }), true, 'add');
  assert.strictEqual(await a.add(lock, 'yours', { expires: 60 }), false, 'add of what is there');
  assert.strictEqual(await a.replace(lock, 'still mine'), true, 'replace');
  assert.strictEqual(await a.delete(lock), true, 'delete');
  assert.strictEqual(await a.delete(lock), false, 'delete of what is gone');
  assert.strictEqual(await value(b, lock), null, 'what was deleted');
}

async function work(round) {
  const values = await Promise.all(Array.from(kept.keys(), (k) => value(a, k)));
  assert.deepStrictEqual(values, Array.from(kept.values()), 'pipelined gets');
  await stores(round);
  const count = (await a.increment(prefix + 'count', 3, { initial: 1003 })).value;
  assert.strictEqual(Number(count), 1001 + 2 * round, 'increment');
  assert.strictEqual(Number((await b.decrement(prefix + 'count', 1, {})).value), 1000 + 2 * round, 'decrement');
  assert.strictEqual(await a.set(prefix + 'big', big(round)), true, 'set of a big value');
  assert.ok((await b.get(prefix + 'big')).value.equals(big(round)), 'a big value');
  a.close();
  a = client();
}

async function main() {
  await begin();
  console.log('memjs ' + require(path.join(where, 'package.json')).version + ', node ' + process.versions.node);
  let round = 0;
  for await (const _ of readline.createInterface({ input: process.stdin })) {
    await work(++round);
    console.log('done ' + round);
  }
  a.close();
  b.close();
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
