/** A key of our own, for the guests of `npm start`, and how to reach them with it. */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { cacheDir } from "@xenoserver/toolstack/guest/index.ts";
import { hasProgram } from "./host-packages.ts";

export interface OwnSsh {
  /** A line of authorized_keys. */
  readonly publicKey: string;
  /** What the user types. */
  readonly command: string;
}

/**
 * Makes the key, if there is none, and a file of settings for ssh.
 * @param domain  what ssh calls the guest
 * @param port    of this host, which leads to the guest; without, there is no way
 * @param isNew   whether the guest will have a host key that nobody has seen
 * @returns undefined where the host has no SSH
 */
export async function ownSsh(domain: string, port: number | undefined, isNew: boolean): Promise<OwnSsh | undefined> {
  if (port === undefined || !hasProgram("ssh-keygen") || !/^[\w.-]+$/.test(domain)) return undefined;
  const folder = join(cacheDir(), "ssh");
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const [key, config, known] = [join(folder, "id_ed25519"), join(folder, domain), join(folder, `${domain}.known`)];
  if (!existsSync(`${key}.pub`))
    await promisify(execFile)("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "xenoserver", "-f", key]);
  if (isNew) rmSync(known, { force: true });
  const settings = {
    HostName: "127.0.0.1",
    Port: port,
    User: "root",
    IdentityFile: `"${key}"`,
    IdentitiesOnly: "yes",
    StrictHostKeyChecking: "accept-new",
    UserKnownHostsFile: `"${known}"`,
  };
  const lines = Object.entries(settings).map(([name, value]) => `  ${name} ${value}\n`);
  writeFileSync(config, `Host ${domain}\n${lines.join("")}`);
  return { publicKey: readFileSync(`${key}.pub`, "utf8").trim(), command: `ssh -F ${config} ${domain}` };
}

/** The first port of this host's loopback, from one on, that nobody listens at. */
export async function freePort(from: number): Promise<number> {
  for (let port = from; port < 65536; port++) if (await isFree(port)) return port;
  throw new Error(`no port from ${from} on is free`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.on("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
