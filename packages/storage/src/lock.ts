/**
 * Locks between processes, which the kernel releases when their holder dies, however it dies.
 *
 * On Linux a lock is a socket in the abstract namespace: it has no file that could be left behind. (Processes in different
 * network namespaces do not see one another's.) Elsewhere it is a file with the holder's process id in it.
 */
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { createServer, type Server } from "node:net";

export interface Lock {
  release(): Promise<void>;
}

/**
 * Takes a lock if it is free.
 * @param path  the file, where files are locks
 * @param key   names the lock elsewhere, if the path may have other names
 * @returns     undefined if somebody holds it, in this process or another
 */
export function tryLock(path: string, key = path): Promise<Lock | undefined> {
  return process.platform === "linux" ? lockSocket(key) : lockFile(path);
}

async function lockSocket(key: string): Promise<Lock | undefined> {
  const name = `\0xenoserver-${createHash("sha256").update(key).digest("hex").slice(0, 40)}`;
  const server = await new Promise<Server | undefined>((resolve, reject) => {
    const listening = createServer((socket) => socket.destroy());
    listening.on("error", (error: NodeJS.ErrnoException) =>
      error.code === "EADDRINUSE" ? resolve(undefined) : reject(error),
    );
    listening.listen(name, () => resolve(listening));
  });
  if (server === undefined) return undefined;
  server.unref();
  return { release: () => new Promise((resolve) => server.close(() => resolve())) };
}

async function lockFile(path: string): Promise<Lock | undefined> {
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      fs.writeFileSync(path, String(process.pid), { flag: "wx" });
      return { release: async () => fs.rmSync(path, { force: true }) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      if (isAlive(Number(fs.readFileSync(path, "utf8")))) return undefined;
      fs.rmSync(path, { force: true });
    }
  }
  return undefined;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
