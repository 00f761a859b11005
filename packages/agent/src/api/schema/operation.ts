/** Operations: what takes longer than who asked for it may want to wait. */
import type { MigrationProgress as ToolstackProgress } from "@xenoserver/toolstack/migrate/index.ts";
import type { SnapshotProgress as ToolstackSnapshot } from "@xenoserver/toolstack/snapshot/index.ts";
import { z } from "zod";
import { answer, anyNumber, flag, listOf, oneOf, optional, text, wholeNumber } from "./fields.ts";
import type { Same } from "./same.ts";

const MIGRATION = {
  phase: oneOf(["disks", "memory", "handover"]).describe("`handover` from the moment its disks take no more requests."),
  round: wholeNumber().describe("Of memory: 1 for the round that sends all of it, 0 while disks are sent before that."),
  sentBytes: wholeNumber().describe("Of everything."),
  diskBytes: wholeNumber().describe("Of disks' blocks, with zeros that need not be sent."),
  diskTotalBytes: wholeNumber().describe("Bytes of disks that were there when it began."),
  dirtyFrames: wholeNumber().describe("Frames that were written during the last whole round; 0 in the first."),
  bytesPerSecond: optional(anyNumber()).describe("What went over the line in the last whole round."),
  dirtyBytesPerSecond: optional(anyNumber()).describe(
    "How fast the guest wrote to frames anew in the last whole round.",
  ),
  expectedDowntimeMs: optional(anyNumber()).describe(
    "If it stood still now: the time to send what is dirty, at the last round's speed. Devices and the other side take more.",
  ),
};
export const MigrationProgress = answer({ kind: z.literal("migrate"), ...MIGRATION });
true satisfies Same<Omit<z.infer<typeof MigrationProgress>, "kind">, ToolstackProgress>;

const SNAPSHOT = {
  round: wholeNumber(),
  writtenBytes: wholeNumber(),
  dirtyFrames: wholeNumber(),
};
export const SnapshotProgress = answer({ kind: z.literal("snapshot"), ...SNAPSHOT });
true satisfies Same<Omit<z.infer<typeof SnapshotProgress>, "kind">, ToolstackSnapshot>;

export const SaveProgress = answer({
  kind: z.literal("save"),
  share: anyNumber().describe("Of its memory that has been looked at, 0 to 1."),
});
export const CreateProgress = answer({
  kind: oneOf(["create", "restore"]),
  domid: wholeNumber().describe("Its process was started."),
});
export const ForkProgress = answer({
  kind: z.literal("fork"),
  madeCount: wholeNumber(),
  count: wholeNumber(),
  snapshot: optional(answer(SNAPSHOT)),
});
export const ShutdownProgress = answer({ kind: z.literal("shutdown"), asked: z.literal(true) });

export const Progress = z.discriminatedUnion("kind", [
  MigrationProgress,
  SnapshotProgress,
  SaveProgress,
  CreateProgress,
  ForkProgress,
  ShutdownProgress,
]);
export type Progress = z.infer<typeof Progress>;

export const OperationKind = oneOf(["create", "restore", "fork", "save", "snapshot", "migrate", "shutdown"]);
export type OperationKind = z.infer<typeof OperationKind>;

export const Failure = answer({
  status: wholeNumber().describe("What the answer's status would have been."),
  message: text(),
});
export type Failure = z.infer<typeof Failure>;

export const Operation = answer({
  id: z.uuid(),
  kind: OperationKind,
  domain: optional(text()).describe("As the request named it."),
  state: oneOf(["running", "succeeded", "failed", "cancelled"]),
  canCancel: flag().describe("Whether it can be cancelled now."),
  startedAtMs: wholeNumber().describe("Milliseconds since the Unix epoch."),
  endedAtMs: optional(wholeNumber()),
  lastEventId: wholeNumber().describe("Of its stream of events."),
  progress: optional(Progress),
  result: optional(z.unknown()).describe("What the answer would have been, of one that succeeded."),
  error: optional(Failure).describe("Of one that failed or was cancelled."),
}).describe("A request that goes on behind its answer.");
export type Operation = z.infer<typeof Operation>;

export const OperationList = answer({ operations: listOf(Operation) });
