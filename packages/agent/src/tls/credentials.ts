/**
 * What an agent proves itself with, in its folder:
 *
 *     tls/authority.crt   whom it believes
 *     tls/authority.key   only where certificates are made
 *     tls/agent.crt       its own
 *     tls/agent.key
 *     tls/listen          "ADDRESS:PORT" where it is reached from elsewhere; without, it is not
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AgentError, type AgentHome } from "../home.ts";
import type { Certificate } from "./certificates.ts";

export interface Credentials {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface ListenAt {
  readonly host: string;
  readonly port: number;
}

const DEFAULT_PORT = 7340;

const fileOf = (folder: string, name: string): string => join(folder, "tls", name);
const read = (folder: string, name: string): string | undefined => {
  const path = fileOf(folder, name);
  return existsSync(path) ? readFileSync(path, "utf8") : undefined;
};

/** Undefined for an agent that was not set up for others. */
export function credentialsOf({ folder }: Pick<AgentHome, "folder">): Credentials | undefined {
  const [ca, cert, key] = ["authority.crt", "agent.crt", "agent.key"].map((name) => read(folder, name));
  return ca === undefined || cert === undefined || key === undefined ? undefined : { ca, cert, key };
}

export function listenOf({ folder }: Pick<AgentHome, "folder">): ListenAt | undefined {
  const written = read(folder, "listen");
  return written === undefined ? undefined : parseListen(written.trim());
}

/**
 * "[ADDRESS:]PORT", an IPv6 address in brackets.
 * @throws AgentError
 */
export function parseListen(written: string): ListenAt {
  const [, v6, host = v6 ?? "::", port = ""] = /^(?:\[([0-9a-fA-F:]+)\]:|([^:]+):)?(\d{1,5})$/.exec(written) ?? [];
  if (!(Number(port) >= 1 && Number(port) <= 65535))
    throw new AgentError(400, `listen is "${written}", expected PORT or ADDRESS:PORT`);
  return { host, port: Number(port) };
}

/**
 * "HOST[:PORT]", an IPv6 address in brackets.
 * @throws AgentError
 */
export function parseEndpoint(written: string): ListenAt {
  const [, v6, host = v6, port = String(DEFAULT_PORT)] =
    /^(?:\[([0-9a-fA-F:]+)\]|([^:/[\]]+))(?::(\d{1,5}))?$/.exec(written) ?? [];
  if (host === undefined || !(Number(port) >= 1 && Number(port) <= 65535))
    throw new AgentError(400, `server is "${written}", expected HOST or HOST:PORT`);
  return { host, port: Number(port) };
}

/** The authority, where certificates are made. */
export function authorityOf({ folder }: Pick<AgentHome, "folder">): Certificate | undefined {
  const [cert, key] = [read(folder, "authority.crt"), read(folder, "authority.key")];
  return cert === undefined || key === undefined ? undefined : { cert, key };
}

/** Writes files of `tls/` that only this user may read. */
export function writeTls(folder: string, files: Readonly<Record<string, string>>): void {
  mkdirSync(join(folder, "tls"), { recursive: true, mode: 0o700 });
  for (const [name, text] of Object.entries(files)) writeFileSync(fileOf(folder, name), text, { mode: 0o600 });
}
