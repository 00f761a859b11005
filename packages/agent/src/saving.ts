/** A domain that is saved, as its agent sees to it. */
import { setTimeout as sleep } from "node:timers/promises";
import {
  type ArgsOf,
  type ControlClient,
  ControlError,
  ControlLost,
  type ResultOf,
  type SaveOutcome,
} from "@xenoserver/toolstack/control/index.ts";
import { POLL_MS } from "./domain-process.ts";
import type { DomainRow } from "./journal.ts";
import type { Work } from "./operations/work.ts";
import type { TransferCalls } from "./transfer-calls.ts";

export interface ReachedDomain {
  /** Another line to its process. */
  connect(): Promise<Pick<ControlClient, "call" | "close">>;
  /** Settles when nothing of it is here any more, with its end. */
  readonly settled: Promise<DomainRow["end"]>;
}
export interface SavedDomain extends ReachedDomain {
  readonly transfers: Pick<TransferCalls, "save">;
}

/** Writes a domain to a file. @throws ControlError, AgentError  nothing is left of it, unless the message says otherwise */
export async function save(
  domain: SavedDomain,
  args: Omit<ArgsOf<"save">, "token">,
  work: Work,
): Promise<ResultOf<"save">> {
  const result = await domain.transfers.save(args, work).catch(async (error: unknown) => {
    if (!(error instanceof ControlLost)) throw error;
    const outcome = await outcomeOf(work.id, domain);
    if (outcome === undefined) throw unknown(error, args.path, work);
    return answerOf(outcome);
  });
  // Who saves a domain and does not keep it may create it again at once.
  if (args.next === "destroy") await domain.settled;
  return result;
}

/** Keeps a domain that runs on in a file. @throws ControlError, AgentError  as `save` */
export async function snapshot(
  { transfers }: { readonly transfers: Pick<TransferCalls, "snapshot"> },
  path: string,
  work: Work,
): Promise<ResultOf<"snapshot">> {
  return transfers.snapshot({ path }, work).catch((error: unknown) => {
    throw error instanceof ControlLost ? unknown(error, path, work) : error;
  });
}

function unknown(error: ControlLost, path: string, work: Work): ControlLost {
  // Else it would count as taken back if that was asked for.
  work.commit();
  error.message = `${error.message}; whether it has written ${path} is not known: a file there is whole, and may be an older one`;
  return error;
}

/** As it would have been. @throws ControlError */
export function answerOf(outcome: SaveOutcome): ResultOf<"save"> {
  if ("error" in outcome) throw new ControlError("conflict", outcome.error);
  return { bytes: outcome.bytes };
}

/** What came of a save whose answer was lost: its process tells, or what that has left. @returns undefined if nobody knows */
async function outcomeOf(token: string, { connect, settled }: ReachedDomain): Promise<SaveOutcome | undefined> {
  let over: { readonly end: DomainRow["end"] } | undefined;
  void settled.then((end) => {
    over = { end };
  });
  while (over === undefined) {
    const client = await connect().catch(unlessDeaf);
    try {
      if (client !== undefined) return await client.call("save-outcome", { token });
    } catch (error) {
      // A process that does not know is one of an earlier version, or was never asked for it.
      if (!(error instanceof ControlLost)) return undefined;
    } finally {
      client?.close();
    }
    await Promise.race([settled, sleep(POLL_MS)]);
  }
  return outcomeIn(over.end, token);
}

/** The same where it is not known whose save it was; of one that ends its domain, when that is put away. */
export async function outcomeAmong(token: string, domains: readonly ReachedDomain[]): Promise<SaveOutcome | undefined> {
  const asked = domains.map(async (domain) => {
    const outcome = await outcomeOf(token, domain);
    if (outcome !== undefined && "bytes" in outcome && outcome.next === "destroy") await domain.settled;
    return outcome ?? Promise.reject(new Error("it was another's"));
  });
  return Promise.any(asked).catch(() => undefined);
}

/** Nobody listens at a process' socket when it ends. @throws unknown  it is something else, as when this agent ends */
function unlessDeaf(error: NodeJS.ErrnoException): undefined {
  if (error.syscall !== "connect") throw error;
}

/** @returns undefined if an end does not tell */
export function outcomeIn(end: DomainRow["end"], token: string): SaveOutcome | undefined {
  return end !== undefined && "saves" in end ? end.saves?.find((saved) => saved.token === token) : undefined;
}
