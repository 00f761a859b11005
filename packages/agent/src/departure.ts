/** A domain that goes to another server, as its agent sees to it. */
import { join } from "node:path";
import { type ControlClient, ControlError, ControlLost, type DomainSpec } from "@xenoserver/toolstack/control/index.ts";
import type { MigrationReport } from "@xenoserver/toolstack/migrate/index.ts";
import { AgentClient, type RemoteAgent } from "./client.ts";
import { AgentError, type AgentHome } from "./home.ts";
import { type AskingTimes, runsThere } from "./in-doubt.ts";
import type { DomainRow } from "./journal.ts";
import type { Work } from "./operations/work.ts";
import { credentialsOf, parseEndpoint } from "./tls/credentials.ts";
import type { TransferCalls } from "./transfer-calls.ts";
import { tunnel } from "./tunnel.ts";

/** A place for a domain at another agent. */
export interface AwaitedDomain {
  readonly domid: number;
  /** Of use on its own machine only. */
  readonly socket: string;
}

export interface LeavingDomain {
  readonly transfers: Pick<TransferCalls, "migrate">;
  readonly domid: number;
  readonly spec: DomainSpec;
  readonly client: Pick<ControlClient, "call">;
  /** Settles when nothing of it is here any more, with its end. */
  readonly settled: Promise<DomainRow["end"]>;
}

export interface DepartureOptions {
  /** Even if too little memory is free there. */
  readonly overcommit: boolean;
  /** Disks that are files or devices are copied. */
  readonly copyStorage: boolean;
  /** Some of its memory follows when it runs there. */
  readonly postCopy: boolean;
}

/** In a domain's folder, while it goes to another machine. */
const DEPARTURE_FILE = "departure.sock";

/**
 * Moves a domain while it runs.
 * @param to  the path of an agent's socket, or "HOST[:PORT]"
 * @throws AgentError, ControlError  it runs on here, unless the message says otherwise
 */
export async function sendAway(
  { domid, spec, client, transfers, settled }: LeavingDomain,
  to: string,
  { overcommit, ...wishes }: DepartureOptions,
  home: Pick<AgentHome, "domain" | "folder">,
  work: Work,
): Promise<MigrationReport> {
  const isHere = to.startsWith("/");
  const there = new AgentClient(isHere ? to : remoteAgent(to, home));
  const place = await there.post<AwaitedDomain>("/v1/domains", { awaits: spec, overcommit });
  const departure = join(home.domain(domid), DEPARTURE_FILE);
  const close = isHere ? () => {} : await tunnel(departure, () => there.arrive(place.domid));
  try {
    const report = await transfers
      .migrate({ socket: isHere ? place.socket : departure, ...wishes }, work)
      .catch((error: unknown) => reportLeft(error, settled));
    await settled;
    await mustBeThere(there, place.domid);
    return report;
  } catch (error) {
    if (error instanceof ControlError && error.code === "in-doubt")
      return await findOut(client, there, place.domid, error);
    if (error instanceof ControlLost) error.message = await whereNow(there, place.domid, error.message);
    await there.post(`/v1/domains/${place.domid}/give-up`).catch(() => {});
    throw error;
  } finally {
    close();
  }
}

/** The last word of a domain's process may be lost with the line to it; it is in what it left, too. @throws unknown  it is not */
async function reportLeft(error: unknown, settled: LeavingDomain["settled"]): Promise<MigrationReport> {
  const end = error instanceof ControlLost ? await settled : undefined;
  if (end === undefined || !("moved" in end) || end.moved === undefined) throw error;
  return end.moved;
}

/** Of a domain whose process was killed while it moved. @returns that, and whether it runs there */
async function whereNow(there: AgentClient, domid: number, lost: string): Promise<string> {
  const isThere = await runsThere(there, domid, LOST_TIMES);
  const found = isThere === undefined ? "did not answer" : isThere ? "it runs there" : "it does not run there";
  return `${lost}; the other agent was asked: ${found}`;
}
/** Nothing waits here any more. */
const LOST_TIMES: AskingTimes = { everyMs: 2000, forMs: 30_000 };

/** @throws AgentError  this agent has nothing to prove itself with */
function remoteAgent(to: string, home: Pick<AgentHome, "folder">): RemoteAgent {
  const credentials = credentialsOf(home);
  if (credentials === undefined)
    throw new AgentError(409, `${home.folder}: has no certificate, expected one made by: xeno agent init`);
  return { ...parseEndpoint(to), credentials };
}

/**
 * Waits until the other agent has taken up a domain whose process there said that it runs.
 * @throws AgentError  it did, and has ended since
 */
async function mustBeThere(there: AgentClient, domid: number): Promise<void> {
  try {
    await there.get(`/v1/domains/${domid}/arrival`);
  } catch (error) {
    // An agent that cannot be asked finds the domain's process when it is back.
    if (!(error instanceof AgentError) || error.status !== 404) return;
    throw new AgentError(409, `the domain has moved, and ended there before its agent took it up: ${error.message}`);
  }
}

/** A migration ended without a word: the domain is let run here if it is known not to run there, and ended if it does. */
async function findOut(
  client: Pick<ControlClient, "call">,
  there: AgentClient,
  domid: number,
  doubt: ControlError,
): Promise<never> {
  const isThere = await runsThere(there, domid);
  if (isThere === undefined) throw doubt;
  if (isThere) await client.call("destroy", { runsElsewhere: true }).catch(unlessLost);
  else await client.call("unpause", {});
  const found = isThere ? "it runs there" : "it does not, and runs on here";
  throw new AgentError(409, `${doubt.message}; the other agent was asked: ${found}`);
}

/** For what ends a domain's process: that it is gone is as good as its answer. @throws unknown  it is not */
export function unlessLost(error: unknown): Record<string, never> {
  if (!(error instanceof ControlLost)) throw error;
  return {};
}
