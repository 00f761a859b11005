/** Work that takes long, as a client follows it: begun by a request, told of by events, taken back by a signal. */
import type { IncomingMessage } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import type { Operation, Progress } from "./api/schema/index.ts";
import { type AgentClient, AgentLost, answerOf } from "./client.ts";
import { AgentError } from "./home.ts";
import type { OperationEvent } from "./operations/running.ts";

export interface Following {
  readonly onProgress?: (progress: Progress) => void;
  /** Takes it back, if that is still possible: the operation fails then, and what it did is undone. */
  readonly signal?: AbortSignal;
  /** Asked again under the same key within a day, it is done once. Only with one is a request repeated when the agent is lost. */
  readonly idempotencyKey?: string;
}

/** An agent that is lost may be started anew; it is looked for so often. */
const TRIES = 120;
const TRY_MS = 250;

/**
 * Has an agent do something that takes long.
 * @returns what it comes to
 * @throws AgentError  what is wrong; also when it was cancelled
 * @throws Error       the agent is gone; what was begun may go on without it
 */
export async function operate<T>(
  agent: AgentClient,
  path: string,
  body: unknown,
  { onProgress = () => {}, signal, idempotencyKey }: Following = {},
): Promise<T> {
  signal?.throwIfAborted();
  const headers = {
    prefer: "respond-async",
    ...(idempotencyKey !== undefined && { "idempotency-key": idempotencyKey }),
  };
  const begin = async (): Promise<{ operation?: Operation; result?: T }> => {
    const response = await agent.ask("POST", path, { headers, body });
    const isOver = response.statusCode !== 202;
    const answer = await answerOf<unknown>(response);
    return isOver ? { result: answer as T } : { operation: answer as Operation };
  };
  const { operation, result } = await (idempotencyKey === undefined ? begin() : tried(begin));
  if (operation === undefined) return result!;
  const cancel = (): void => void agent.post(`/v1/operations/${operation.id}/cancel`).catch(() => {});
  if (signal?.aborted === true) cancel();
  signal?.addEventListener("abort", cancel, { once: true });
  try {
    const { state, error, result: made } = await followed(agent, operation, onProgress);
    if (state === "succeeded") return made as T;
    throw new AgentError(error?.status ?? 500, error?.message ?? `operation ${operation.id} ${state}`);
  } finally {
    signal?.removeEventListener("abort", cancel);
  }
}

async function tried<T>(act: () => Promise<T>): Promise<T> {
  for (let left = TRIES; ; left--) {
    try {
      return await act();
    } catch (error) {
      if (left === 0 || !isLost(error)) throw error;
      await sleep(TRY_MS);
    }
  }
}

const isLost = (error: unknown): boolean => error instanceof AgentLost || !(error instanceof AgentError);

/** Until it is over, whatever connections or agents are lost meanwhile. */
async function followed(
  agent: AgentClient,
  { id }: Operation,
  onProgress: (progress: Progress) => void,
): Promise<Operation> {
  let last = 0;
  for (;;) {
    const headers = { "last-event-id": String(last) };
    const response = await tried(() => agent.ask("GET", `/v1/operations/${id}/events`, { headers }));
    if (response.statusCode === 204) return agent.get<Operation>(`/v1/operations/${id}`);
    if (response.statusCode !== 200) await answerOf(response);
    try {
      for await (const event of eventsOf(response)) {
        last = event.id;
        if (event.operation.state !== "running") return event.operation;
        if (event.operation.progress !== undefined) onProgress(event.operation.progress);
      }
    } catch (error) {
      if (!isCut(error)) throw error;
    }
    await sleep(TRY_MS);
  }
}

const isCut = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === "ECONNRESET";

/** @see https://html.spec.whatwg.org/multipage/server-sent-events.html */
export async function* eventsOf(response: IncomingMessage): AsyncGenerator<OperationEvent> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of response) {
    text += decoder.decode(bytes as Buffer, { stream: true });
    const blocks = text.split("\n\n");
    text = blocks.pop()!;
    for (const block of blocks) {
      const fieldOf = (name: string): string | undefined =>
        block
          .split("\n")
          .find((line) => line.startsWith(`${name}: `))
          ?.slice(name.length + 2);
      const [id, event, data] = [fieldOf("id"), fieldOf("event") as OperationEvent["event"], fieldOf("data")];
      if (id !== undefined && data !== undefined)
        yield { id: Number(id), event, operation: JSON.parse(data) as Operation };
    }
  }
}
