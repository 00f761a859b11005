/**
 * Keeps browsers' pages out. What runs in a page may send requests to any address that its browser reaches, with the browser's
 * certificates; the agent is for programs, which name no origin.
 */
import type { IncomingMessage } from "node:http";
import { AgentError } from "../home.ts";

/** Browsers say these of each request to a place that they trust, whatever the page wants; programs do not. */
const OF_BROWSERS = ["origin", "sec-fetch-site", "sec-fetch-mode"] as const;

/** @throws AgentError  403 */
export function refuseBrowsers({ headers }: IncomingMessage): void {
  const header = OF_BROWSERS.find((name) => headers[name] !== undefined);
  if (header === undefined) return;
  throw new AgentError(403, `${header} is "${String(headers[header])}": pages in browsers are not let in`);
}
