import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ControlError } from "./protocol.ts";
import { Transfers } from "./transfers.ts";

const tooLate = (error: unknown): boolean => error instanceof ControlError && error.code === "conflict";

describe("transfers", () => {
  test("follow one another, also behind one that fails", async () => {
    const transfers = new Transfers();
    const seen: string[] = [];
    const first = Promise.withResolvers<void>();
    const one = transfers.run("one", async () => {
      seen.push("one begins");
      await first.promise;
      throw new Error("one fails");
    });
    const two = transfers.run(undefined, async () => {
      seen.push("two begins");
      return 2;
    });
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(seen, ["one begins"]);
    first.resolve();
    await assert.rejects(one, /one fails/);
    assert.equal(await two, 2);
    assert.deepEqual(seen, ["one begins", "two begins"]);
  });

  test("are cancelled by their token until they are committed, or over", async () => {
    const transfers = new Transfers();
    const aborted = transfers.run("a", ({ signal }) => {
      const { promise, reject } = Promise.withResolvers<never>();
      signal.addEventListener("abort", () => reject(signal.reason));
      return promise;
    });
    await assert.rejects(
      transfers.run("a", async () => {}),
      /token is "a", which another has/,
    );
    transfers.cancel("a");
    await assert.rejects(aborted, /it was cancelled/);
    assert.throws(() => transfers.cancel("a"), tooLate);
    const committed = transfers.run("b", async ({ onCommit }) => {
      onCommit();
      assert.throws(() => transfers.cancel("b"), tooLate);
    });
    await committed;
  });

  test("that were cancelled before their turn find that when it comes", async () => {
    const transfers = new Transfers();
    const first = Promise.withResolvers<void>();
    const before = transfers.run(undefined, () => first.promise);
    const waiting = transfers.run("w", async ({ signal }) => signal.throwIfAborted());
    transfers.cancel("w");
    first.resolve();
    await before;
    await assert.rejects(waiting, /it was cancelled/);
  });
});
