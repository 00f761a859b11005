/** Setting agents up for one another. */
import { existsSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { AgentError, type AgentHome } from "../home.ts";
import { issueCertificate, makeAuthority } from "./certificates.ts";
import { authorityOf, credentialsOf, parseListen, writeTls } from "./credentials.ts";

export interface SetupOptions {
  /** Names and addresses by which others reach the server; its own name and localhost if there are none. */
  readonly hosts: readonly string[];
  /** "[ADDRESS:]PORT". */
  readonly listen: string;
}

const hostsOf = (hosts: readonly string[]): readonly string[] =>
  hosts.length > 0 ? hosts : [hostname(), "localhost", "127.0.0.1", "::1"];

/**
 * Makes an authority, unless there is one, and a certificate for this server.
 * @throws AgentError  others have signed for this server
 */
export async function setUp(home: AgentHome, { hosts, listen }: SetupOptions): Promise<void> {
  parseListen(listen);
  if (credentialsOf(home) !== undefined && authorityOf(home) === undefined)
    throw new AgentError(409, `${home.folder}: has a certificate of another server's authority already`);
  const authority = authorityOf(home) ?? (await makeAuthority());
  const { cert, key } = await issueCertificate(authority, hostsOf(hosts));
  writeTls(home.folder, {
    ...{ "authority.crt": authority.cert, "authority.key": authority.key, "agent.crt": cert, "agent.key": key },
    listen: `${listen}\n`,
  });
}

/**
 * Makes what another server needs, in a folder that is to become its agent's.
 * @throws AgentError  no certificates are made here, or there are some in the folder
 */
export async function invite(home: AgentHome, folder: string, { hosts, listen }: SetupOptions): Promise<void> {
  parseListen(listen);
  if (hosts.length === 0) throw new AgentError(400, "no host is named, expected how others reach the server");
  const authority = authorityOf(home);
  if (authority === undefined)
    throw new AgentError(409, `${home.folder}: has no authority, expected one made by: xeno agent init`);
  if (existsSync(join(folder, "tls"))) throw new AgentError(409, `${folder}: has certificates already`);
  const { cert, key } = await issueCertificate(authority, hosts);
  writeTls(folder, { "authority.crt": authority.cert, "agent.crt": cert, "agent.key": key, listen: `${listen}\n` });
}
