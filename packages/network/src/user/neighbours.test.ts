import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { Neighbours } from "./neighbours.ts";

const MAC = 0x00163e000001;

test("who was heard of is not asked for", async () => {
  const neighbours = new Neighbours(() => assert.fail("it was asked"));
  neighbours.learn("10.0.2.15", MAC);
  assert.equal(await neighbours.find("10.0.2.15"), MAC);
});

test("who was not is asked for once by all that look for it, and found by its answer", async () => {
  const asked: string[] = [];
  const neighbours = new Neighbours((address) => asked.push(address));
  const found = [neighbours.find("10.0.2.15"), neighbours.find("10.0.2.15")];
  neighbours.learn("10.0.2.16", MAC + 1);
  neighbours.learn("10.0.2.15", MAC);
  assert.deepEqual(await Promise.all(found), [MAC, MAC]);
  assert.deepEqual(asked, ["10.0.2.15"]);
});

test("nobody is found who does not answer three times, and can be looked for again", async () => {
  mock.timers.enable({ apis: ["setInterval"] });
  try {
    let asked = 0;
    const neighbours = new Neighbours(() => asked++);
    const found = neighbours.find("10.0.2.15");
    mock.timers.tick(2999);
    assert.equal(asked, 3);
    mock.timers.tick(1);
    assert.equal(await found, undefined);
    const again = neighbours.find("10.0.2.15");
    neighbours.close();
    assert.equal(await again, undefined);
    mock.timers.tick(5000);
    assert.equal(asked, 4);
  } finally {
    mock.timers.reset();
  }
});
