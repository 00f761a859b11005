/** Lines between a domain's process and another server's agent. */
import { rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import type { Duplex } from "node:stream";

/** For what was said before an end to reach the other side, which may be gone without a word. */
const LINGER_MS = 30_000;

/** Joins two lines; the end of one is the end of the other. What was said before an end is passed on, if that is taken in time. */
export function join(a: Duplex, b: Duplex, lingerMs = LINGER_MS): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.on("error", () => {});
    from.on("close", () => {
      if (!from.readableEnded) return void to.destroy();
      to.end();
      if (to.destroyed) return;
      // The kernel would try for a quarter of an hour to get rid of it, and the agent could not end meanwhile.
      const timer = setTimeout(() => to.destroy(), lingerMs);
      to.once("close", () => clearTimeout(timer));
    });
    from.pipe(to);
  }
}

/**
 * Has one connection to a socket, which only this user may open, go on over another line.
 * @param open  makes that line, when the connection comes
 * @returns     what removes the socket again; a connection stays, to end by itself in a while
 */
export async function tunnel(path: string, open: () => Promise<Duplex>, lingerMs = LINGER_MS): Promise<() => void> {
  rmSync(path, { force: true });
  const server = createServer();
  let connection: Socket | undefined;
  server.once("connection", (socket) => {
    connection = socket;
    socket.on("error", () => {});
    open().then(
      (line) => join(socket, line, lingerMs),
      () => socket.destroy(),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    const mask = process.umask(0o177);
    server.listen(path, resolve);
    process.umask(mask);
  });
  return () => {
    server.close();
    rmSync(path, { force: true });
    // While the line takes nothing, nobody here sees that the domain's process has let go of it.
    setTimeout(() => connection?.destroy(), lingerMs).unref();
  };
}
