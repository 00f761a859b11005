/** Connections that stay: consoles, commands in guests, watches, and domains that arrive. */

import type { Duplex } from "node:stream";
import type { ControlClient } from "@xenoserver/toolstack/control/index.ts";
import { serveExec } from "../../exec-stream.ts";
import { join } from "../../tunnel.ts";
import type { LineRoute } from "../route.ts";
import { WatchQuery } from "../schema/index.ts";

const LINE = { kind: "line", method: "GET" } as const;

export const LINE_ROUTES: readonly LineRoute[] = [
  {
    ...LINE,
    id: "openConsole",
    path: "/v1/domains/{ref}/console",
    summary: "A domain's console: what it prints, from the oldest byte that is kept on; and what is typed",
    protocol: "xeno-console",
    subprotocol: "console.xenoserver.v1",
    describes: "Bytes both ways.",
    async serve({ supervisor, ref }, open) {
      await serveConsole(await supervisor.connect(ref), await open());
    },
  },
  {
    ...LINE,
    id: "openExec",
    path: "/v1/domains/{ref}/exec",
    summary: "A command in a domain's guest",
    protocol: "xeno-exec",
    subprotocol: "exec.xenoserver.v1",
    describes: "Frames of the command's streams.",
    async serve({ supervisor, ref }, open) {
      await serveExec(await supervisor.connect(ref), await open());
    },
  },
  {
    ...LINE,
    id: "watchStore",
    path: "/v1/domains/{ref}/watch",
    summary: "Changes at or below a path of a domain's xenstore, the first of which is the state at the beginning",
    query: WatchQuery,
    protocol: "xeno-watch",
    describes: 'Lines {"path":PATH}, or one {"error":SENTENCE}.',
    async serve({ supervisor, ref, query }, open) {
      await serveWatch(await supervisor.connect(ref), await open(), (query as { path: string }).path);
    },
  },
  {
    ...LINE,
    id: "openArrival",
    path: "/v1/domains/{domid}/arrive",
    summary: "The line by which a domain that is awaited is sent",
    protocol: "xeno-arrive",
    describes: "Records of a moving domain.",
    async serve({ supervisor, ref }, open) {
      const line = await supervisor.arrivals.line(Number(ref));
      join(await open(), line);
    },
  },
];

async function serveConsole(client: ControlClient, socket: Duplex): Promise<void> {
  client.onEvent = (event) => {
    if (event.event !== "console" || socket.write(Buffer.from(event.base64, "base64"))) return;
    client.hold();
    socket.once("drain", () => client.release());
  };
  void client.closed.then(() => socket.end());
  socket.on("close", () => client.close());
  await client.call("console-follow", {});
  for await (const bytes of socket) {
    await client.call("console-write", { base64: (bytes as Buffer).toString("base64") });
  }
}

async function serveWatch(client: ControlClient, socket: Duplex, path: string): Promise<void> {
  client.onEvent = (event) => {
    if (event.event === "xenstore") socket.write(`${JSON.stringify({ path: event.path })}\n`);
  };
  void client.closed.then(() => socket.end());
  socket.on("close", () => client.close());
  await client
    .call("xenstore-watch", { path, token: "watch" })
    .catch((error: Error) => socket.end(`${JSON.stringify({ error: error.message })}\n`));
  socket.resume();
}
