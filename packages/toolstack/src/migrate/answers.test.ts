import assert from "node:assert/strict";
import { duplexPair } from "node:stream";
import { describe, test } from "node:test";
import { RecordType, RecordWriter } from "../save/records.ts";
import { Answers, Refused } from "./answers.ts";

describe("whoever waits for the other server's answer", () => {
  test("is told why the line failed, before its first word and behind it", async () => {
    for (const isBegun of [false, true]) {
      const [here, there] = duplexPair();
      const answers = new Answers(here);
      if (isBegun) {
        await new RecordWriter(there, false).write(RecordType.synced, new Uint8Array());
        await answers.next(RecordType.synced);
      }
      const failed = assert.rejects(
        answers.next(RecordType.ready),
        /^SaveError: the other server: no answer within 30 s$/,
      );
      here.destroy(new Error("no answer within 30 s"));
      await failed;
    }
  });

  test("is told of an end, and of another's refusal", async () => {
    const [here, there] = duplexPair();
    const ended = assert.rejects(new Answers(here).next(RecordType.ready), /the other server: ends too early$/);
    there.end();
    await ended;
    const [one, other] = duplexPair();
    one.on("error", () => {});
    const refused = assert.rejects(new Answers(one).next(RecordType.ready), new Refused("no room"));
    await new RecordWriter(other, false).write(RecordType.refused, Buffer.from("no room"));
    await refused;
  });
});
