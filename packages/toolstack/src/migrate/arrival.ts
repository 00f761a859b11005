import { renameSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { SaveError } from "../save/error.ts";
import { ArrivingDomain } from "./receive.ts";

/** How long a place is kept for a domain that does not come. */
const ARRIVAL_MS = 30_000;

/**
 * Waits at a socket, which only this user may open, for one domain.
 * @throws SaveError  none came, or what came is none
 */
export async function awaitArrival(path: string): Promise<ArrivingDomain> {
  rmSync(path, { force: true });
  const server = createServer();
  const { promise, resolve, reject } = Promise.withResolvers<ArrivingDomain>();
  const timer = setTimeout(() => reject(new SaveError(`no domain came within ${ARRIVAL_MS / 1000} s`)), ARRIVAL_MS);
  server.on("error", reject);
  server.once("connection", (link) => {
    clearTimeout(timer);
    link.on("error", () => {});
    link.setTimeout(ARRIVAL_MS, () => link.destroy());
    ArrivingDomain.from(link).then(resolve, reject);
  });
  // Who finds the socket connects to it: it gets its name when it listens.
  const part = `${path}.part`;
  rmSync(part, { force: true });
  const mask = process.umask(0o177);
  server.listen(part, () => renameSync(part, path));
  process.umask(mask);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    server.close();
    rmSync(path, { force: true });
  }
}
