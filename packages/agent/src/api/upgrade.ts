/** Connections that stay: an HTTP request that is upgraded to a line of bytes, or to a WebSocket beside it. */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { AgentError } from "../home.ts";
import { refuseBrowsers } from "./browsers.ts";
import { match, urlOf } from "./match.ts";
import type { Agent, LineRoute, OpenLine } from "./route.ts";
import { ROUTES } from "./routes/index.ts";
import { queryOfRoute } from "./serve.ts";
import { statusOf } from "./status.ts";
import { isWebSocket, openWebSocket } from "./websocket.ts";

const LINES = ROUTES.filter((route) => route.kind === "line");

export async function answerUpgrade(
  agent: Agent,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  socket.on("error", () => {});
  let isOpen = false;
  try {
    refuseBrowsers(request);
    const url = urlOf(request);
    const { route, ref } = match(LINES, request.method ?? "GET", url.pathname);
    const open = opener(route, request, socket, head);
    await route.serve({ ...agent, ref, query: queryOfRoute(route, url), body: undefined }, async () => {
      const line = await open();
      isOpen = true;
      return line;
    });
  } catch (error) {
    if (isOpen) return void socket.destroy();
    const body = JSON.stringify({ error: (error as Error).message });
    const head = `HTTP/1.1 ${statusOf(error)} Refused\r\nContent-Type: application/json\r\nConnection: close\r\n`;
    if (!socket.destroyed) socket.end(`${head}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  }
}

/** @throws AgentError  it asks for another protocol */
function opener(route: LineRoute, request: IncomingMessage, socket: Duplex, head: Buffer): OpenLine {
  if (isWebSocket(request)) return openWebSocket(route, request, socket, head);
  const asked = request.headers.upgrade;
  if (asked !== route.protocol) throw new AgentError(400, `Upgrade is "${asked}", expected ${route.protocol}`);
  return async () => {
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${route.protocol}\r\n\r\n`);
    if (head.length > 0) socket.unshift(head);
    return socket;
  };
}
