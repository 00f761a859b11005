/** What a request brings. */
import type { IncomingMessage } from "node:http";
import { AgentError } from "../home.ts";

const MAX_BODY_BYTES = 1 << 20;

/** @throws AgentError  413 */
export async function textOf(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    pieces.push(piece);
    bytes += piece.length;
    if (bytes > MAX_BODY_BYTES) throw new AgentError(413, `body has more than ${MAX_BODY_BYTES} bytes, expected fewer`);
  }
  return Buffer.concat(pieces).toString();
}

/** No body is an empty object. @throws AgentError  it is no JSON */
export function jsonOf(text: string): unknown {
  try {
    return text === "" ? {} : JSON.parse(text);
  } catch {
    throw new AgentError(400, "body is no JSON, expected an object");
  }
}

/** @throws AgentError  a parameter is there twice */
export function queryOf(parameters: URLSearchParams): Record<string, string> {
  const query: Record<string, string> = {};
  for (const [name, value] of parameters) {
    if (Object.hasOwn(query, name)) throw new AgentError(400, `${name} is in the query twice, expected once`);
    query[name] = value;
  }
  return query;
}
