import assert from "node:assert/strict";
import { test } from "node:test";
import { XsRing } from "@xenoserver/xen/abi/xs-wire.ts";
import fc from "fast-check";
import { GuestClient } from "../testing/guest-client.ts";
import { encodeMessage, toBytes } from "../wire/message.ts";
import { XenstoreDaemon } from "./daemon.ts";

const path = fc.constantFrom(
  "data",
  "data/a",
  "data/a/b",
  "/local/domain/3/data",
  "/",
  "name",
  "@introduceDomain",
  "a b",
);
const part = fc.oneof(path, fc.constantFrom("T", "F", "", "n3", "b0", "0", "5", "x".repeat(3000)));
const anyRequest = fc.record({
  type: fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 0, max: 24 }) }, fc.nat(0xffffffff)),
  transactionId: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 12 })),
  parts: fc.array(part, { maxLength: 3 }),
});

test("random requests get one reply each and never break the server", () => {
  const daemon = new XenstoreDaemon();
  daemon.openLocal().write("/local/domain/3/data", "");
  daemon.openLocal().setPermissions("/local/domain/3/data", ["n3"]);
  const guest = new GuestClient(daemon, 3);
  let requestId = 1;
  fc.assert(
    fc.property(anyRequest, ({ type, transactionId, parts }) => {
      const payload = toBytes(parts.map((text) => `${text}\0`).join("")).subarray(0, 4096);
      guest.put(encodeMessage({ type, requestId: ++requestId, transactionId, payload }));
      const replies: number[] = [];
      for (let message = guest.take(); message !== undefined; message = guest.take()) {
        if (message.requestId !== 0) replies.push(message.requestId);
      }
      assert.deepEqual(replies, [requestId]);
    }),
    { numRuns: 3000 },
  );
});

test("random bytes and indices in the page neither throw nor hang", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 64, maxLength: 256 }),
      fc.array(fc.nat(0xffffffff), { minLength: 7, maxLength: 7 }),
      (noise, indices) => {
        const guest = new GuestClient(new XenstoreDaemon(), 3);
        for (let n = 0; n < 1024; n++) guest.page[n] = noise[n % noise.length];
        guest.words.set(indices, XsRing.req_cons / 4);
        for (let n = 0; n < 3; n++) guest.connection.onEvent();
      },
    ),
    { numRuns: 2000 },
  );
});
