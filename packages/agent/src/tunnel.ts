/** Lines between a domain's process and another server's agent. */
import { rmSync } from "node:fs";
import { createServer } from "node:net";
import type { Duplex } from "node:stream";

/** Joins two lines; the end of one is the end of the other. What was said before an end is passed on. */
export function join(a: Duplex, b: Duplex): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.on("error", () => {});
    from.on("close", () => (from.readableEnded ? to.end() : to.destroy()));
    from.pipe(to);
  }
}

/**
 * Has one connection to a socket, which only this user may open, go on over another line.
 * @param open  makes that line, when the connection comes
 * @returns     what removes the socket again; a connection stays
 */
export async function tunnel(path: string, open: () => Promise<Duplex>): Promise<() => void> {
  rmSync(path, { force: true });
  const server = createServer();
  server.once("connection", (socket) => {
    socket.on("error", () => {});
    open().then(
      (line) => join(socket, line),
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
  };
}
