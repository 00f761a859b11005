/** A domain's last word when it is saved, and what is found where that is lost. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import {
  ControlClient,
  ControlError,
  type DomainEnd,
  type Request,
  type SaveOutcome,
} from "@xenoserver/toolstack/control/index.ts";
import type { DomainRow } from "./journal.ts";
import { unwatched } from "./operations/work.ts";
import { outcomeAmong, save, snapshot } from "./saving.ts";
import { TransferCalls } from "./transfer-calls.ts";

const ENDED: DomainEnd = { reason: "destroyed", runMs: 1, instructions: 1, exits: {}, restarts: 0, endedAt: 1 };
const FILE = { token: "w", path: "/file", next: "destroy" } as const;
const WHOLE: SaveOutcome = { ...FILE, bytes: 100 };
const NOT_WRITTEN: SaveOutcome = { ...FILE, error: "/file: cannot be written: the domain ended meanwhile" };
const LOST =
  "the domain's process is gone; whether it has written /file is not known: a file there is whole, and may be an older one";

describe("a domain that is saved", () => {
  let folder: string;
  let socket: string;
  let process: Server;
  let asked: string[];
  let settled: PromiseWithResolvers<DomainRow["end"]>;
  /** What the process does with a request. */
  let take: (request: Request, reply: (answer: object) => void, line: Socket) => void;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "xeno-saving-"));
    socket = join(folder, "control.sock");
    asked = [];
    settled = Promise.withResolvers();
    process = createServer((line) =>
      line.on("data", (bytes) => {
        const request = JSON.parse(bytes.toString()) as Request;
        asked.push(request.op);
        take(request, (answer) => line.write(`${JSON.stringify({ id: request.id, ...answer })}\n`), line);
      }),
    );
    await new Promise<void>((resolve) => process.listen(socket, resolve));
  });
  afterEach(() => {
    process.close();
    rmSync(folder, { recursive: true });
  });

  /** The process ends, and what it leaves is put away. */
  const ends = (line: Socket, end: DomainRow["end"]): void => {
    process.close();
    line.destroy();
    setTimeout(() => settled.resolve(end), 1);
  };
  const saved = async (next: "destroy" | "run" = "destroy", work = unwatched("w")): Promise<{ bytes: number }> => {
    const client = await ControlClient.connect(socket);
    const domain = {
      ...{ transfers: new TransferCalls(client), settled: settled.promise },
      connect: () => ControlClient.connect(socket),
    };
    return save(domain, { path: "/file", next }, work).finally(() => client.close());
  };

  test("has a file where it says so, and is gone", async () => {
    let isSettled = false;
    take = (_request, reply, line) => {
      reply({ result: { bytes: 100 } });
      void settled.promise.then(() => {
        isSettled = true;
      });
      setImmediate(() => ends(line, { ...ENDED, saves: [WHOLE] }));
    };
    assert.deepEqual(await saved(), { bytes: 100 });
    assert.ok(isSettled);
  });

  test("has a file where its last word was lost, but is in what it left", async () => {
    take = (_request, _reply, line) => ends(line, { ...ENDED, saves: [{ ...WHOLE, token: "v", bytes: 7 }, WHOLE] });
    assert.deepEqual(await saved(), { bytes: 100 });
    assert.deepEqual(asked, ["save"]);
  });

  test("has none where what it left says why", async () => {
    take = (_request, _reply, line) => ends(line, { ...ENDED, saves: [NOT_WRITTEN] });
    await assert.rejects(saved(), { code: "conflict", message: NOT_WRITTEN.error });
  });

  test("is asked again where only the line was lost", async () => {
    for (const [next, outcome] of [
      ["run", WHOLE],
      ["destroy", WHOLE],
      ["destroy", NOT_WRITTEN],
    ] as const) {
      asked = [];
      take = ({ op, args }, reply, line) => {
        if (op === "save") return line.destroy();
        assert.deepEqual(args, { token: "w" });
        reply({ result: outcome });
        settled.resolve(ENDED);
      };
      const told = await saved(next).catch((error: unknown) => error);
      if ("error" in outcome) assert.equal((told as Error).message, outcome.error);
      else assert.deepEqual(told, { bytes: 100 });
      assert.deepEqual(asked, ["save", "save-outcome"]);
    }
  });

  test("is believed by what it left where it ends while it is asked again", async () => {
    take = ({ op }, _reply, line) => (op === "save" ? line.destroy() : ends(line, { ...ENDED, saves: [WHOLE] }));
    assert.deepEqual(await saved(), { bytes: 100 });
    assert.deepEqual(asked, ["save", "save-outcome"]);
  });

  test("and was killed, or left nothing of that save, may have one or not", async () => {
    const others = [{ ...WHOLE, token: "v" }];
    for (const end of [{ reason: "killed", endedAt: 1 }, ENDED, { ...ENDED, saves: others }] as const) {
      let isCommitted = false;
      const work = { ...unwatched("w"), commit: () => (isCommitted = true) };
      if (!process.listening) await new Promise<void>((resolve) => process.listen(socket, resolve));
      settled = Promise.withResolvers();
      take = (_request, _reply, line) => ends(line, end);
      await assert.rejects(saved("destroy", work), { message: LOST });
      assert.ok(isCommitted, "it does not count as taken back");
    }
  });

  test("by a process that cannot tell may have one or not", async () => {
    take = ({ op }, reply, line) =>
      op === "save" ? line.destroy() : reply({ error: { code: "invalid", message: 'op is "save-outcome"' } });
    await assert.rejects(saved("run"), { message: LOST });
  });

  test("for a snapshot may have one or not where its last word was lost, and has none where it says so", async () => {
    for (const [isLost, message] of [
      [true, LOST],
      [false, "it has ended"],
    ] as const) {
      let isCommitted = false;
      take = (_request, reply, line) =>
        isLost ? line.destroy() : reply({ error: { code: "conflict", message: "it has ended" } });
      const client = await ControlClient.connect(socket);
      const work = { ...unwatched("w"), commit: () => (isCommitted = true) };
      await assert.rejects(snapshot({ transfers: new TransferCalls(client) }, "/file", work), { message });
      assert.equal(isCommitted, isLost);
      client.close();
    }
  });

  test("and refuses is not asked again", async () => {
    take = (_request, reply) => reply({ error: { code: "conflict", message: "it has ended" } });
    await assert.rejects(
      saved(),
      (error) => error instanceof ControlError && error.code === "conflict" && error.message === "it has ended",
    );
    assert.deepEqual(asked, ["save"]);
  });
});

test("a save is found among domains that may have had it, which may end meanwhile", async () => {
  const never = new Promise<never>(() => {});
  const gone = async (): Promise<never> => {
    throw Object.assign(new Error("connect ENOENT"), { syscall: "connect" });
  };
  const refuses = { close: () => {}, call: () => Promise.reject(new ControlError("not-found", "no save has it")) };
  const others = [
    { settled: never, connect: async () => refuses },
    { settled: Promise.resolve(ENDED), connect: gone },
  ];
  const one = { settled: Promise.resolve({ ...ENDED, saves: [WHOLE] }), connect: gone };
  assert.deepEqual(await outcomeAmong("w", [...others, one]), WHOLE);
  assert.equal(await outcomeAmong("w", others), undefined);
  assert.equal(await outcomeAmong("w", []), undefined);
});
