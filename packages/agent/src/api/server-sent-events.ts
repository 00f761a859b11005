/** An operation's events in the format of the browsers' EventSource. */
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { AgentError } from "../home.ts";
import type { OperationRegistry } from "../operations/registry.ts";
import type { OperationEvent } from "../operations/running.ts";

/** So often a line that says nothing shows that the connection is alive. */
const ALIVE_MS = 15_000;

/** @throws AgentError  there is no such operation, or the number to resume at is none */
export async function sendEvents(
  operations: OperationRegistry,
  id: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const after = lastEventId(request);
  const { state, lastEventId: last } = operations.get(id);
  const events = operations.events(id, after);
  if (state !== "running" && after >= last) return void response.writeHead(204).end();
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  response.flushHeaders();
  const alive = setInterval(() => response.write(":\n\n"), ALIVE_MS);
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  try {
    for await (const event of events) {
      if (gone.signal.aborted) return;
      if (!response.write(format(event))) await once(response, "drain", { signal: gone.signal }).catch(() => {});
    }
  } finally {
    clearInterval(alive);
    response.end();
  }
}

function lastEventId({ headers }: IncomingMessage): number {
  const written = headers["last-event-id"] ?? "0";
  if (typeof written !== "string" || !/^\d{1,15}$/.test(written))
    throw new AgentError(400, `Last-Event-ID is ${JSON.stringify(written)}, expected the number of an event`);
  return Number(written);
}

const format = ({ id, event, operation }: OperationEvent): string =>
  `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(operation)}\n\n`;
