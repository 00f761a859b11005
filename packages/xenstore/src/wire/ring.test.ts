import assert from "node:assert/strict";
import { test } from "node:test";
import { XsRing, XsType } from "@xenoserver/xen/abi/xs-wire.ts";
import { XenstoreRing } from "./ring.ts";

test("a guest that reads while we write is not left with room that it does not ring for", () => {
  const words = new Int32Array(new SharedArrayBuffer(4096));
  let whileWriting = (): void => {};
  const page = new Proxy(new Uint8Array(words.buffer), {
    get: (target, key) => Reflect.get(target, key, target),
    set: (target, key, value) => {
      whileWriting();
      return Reflect.set(target, key, value, target);
    },
  });
  const ring = new XenstoreRing(page);
  const payload = new Uint8Array(4000);
  ring.send({ type: XsType.READ, requestId: 0, transactionId: 0, payload });
  ring.flush();
  const read = (count: number): number => (words[XsRing.rsp_cons / 4] += count);
  const used = (): number => words[XsRing.rsp_prod / 4] - words[XsRing.rsp_cons / 4];
  assert.equal(used(), XsRing.ringBytes);

  // The guest rings for its first read, for the ring was full; not for its second, for it is not.
  read(100);
  whileWriting = () => {
    whileWriting = () => {};
    read(50);
  };
  ring.flush();
  assert.equal(used(), XsRing.ringBytes, "it is full again, so the next read rings");
});
