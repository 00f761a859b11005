/** What domains use. */
import type { UsageTotals as ToolstackTotals } from "@xenoserver/toolstack/usage/meter.ts";
import type { z } from "zod";
import { answer, listOf, text, wholeNumber } from "./fields.ts";
import type { Same } from "./same.ts";

const TRAFFIC = {
  diskReadBytes: wholeNumber(),
  diskWrittenBytes: wholeNumber(),
  diskReadRequests: wholeNumber(),
  diskWriteRequests: wholeNumber(),
  netSentBytes: wholeNumber(),
  netReceivedBytes: wholeNumber(),
};

export const UsageTotals = answer({
  wallNs: wholeNumber(),
  vcpuUsedNs: wholeNumber(),
  vcpuReservedNs: wholeNumber(),
  memoryUsedByteSeconds: wholeNumber(),
  memoryReservedByteSeconds: wholeNumber(),
  diskStoredByteSeconds: wholeNumber(),
  diskReservedByteSeconds: wholeNumber(),
  ...TRAFFIC,
}).describe("What a domain used and had reserved. Whole numbers.");
true satisfies Same<z.infer<typeof UsageTotals>, ToolstackTotals>;

export const UsageSum = answer({
  runId: text(),
  domid: wholeNumber(),
  name: text(),
  records: wholeNumber().describe("How many usage records are in the sum."),
  totals: UsageTotals,
}).describe("A domain's usage as the journal has it, also of domains that have ended.");
export type UsageSum = z.infer<typeof UsageSum>;

export const UsageList = answer({ usage: listOf(UsageSum) });
