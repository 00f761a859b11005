/** Files into a domain's guest and out of it. */
import { createReadStream, createWriteStream, type Stats } from "node:fs";
import { rename, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { getSystemErrorMessage } from "node:util";
import { type AgentClient, GuestSession } from "@xenoserver/agent/index.ts";
import { ExitError, ExitStatus } from "./exit-status.ts";

/** One end of a copy: a file here, in a domain's guest, or, for "-", standard input or output. */
export interface CopyEnd {
  /** Undefined for a file here. */
  readonly domain?: string;
  readonly path: string;
}

/** "NAME:PATH" is in a domain; a path with a slash before its first colon is here. */
export function copyEnd(written: string): CopyEnd {
  const match = /^([A-Za-z0-9][\w.+-]*):(.+)$/s.exec(written);
  return match === null ? { path: written } : { domain: match[1]!, path: match[2]! };
}

export type CopyProgress = (bytes: number) => void;

const AS_ROOT = { user: { uid: 0, gids: [0] }, cwd: "/" } as const;
const DEFAULT_MODE = 0o644;

/** @throws ExitError  one sentence; nothing has the target's name then but what had it before */
export async function copyIn(
  agent: AgentClient,
  from: string,
  to: Required<CopyEnd>,
  onProgress: CopyProgress,
): Promise<void> {
  const found = from === "-" ? undefined : await statHere(from);
  const path = await targetInGuest(agent, to, from);
  const mode = found === undefined ? DEFAULT_MODE : found.mode & 0o7777;
  const source = (from === "-" ? process.stdin : createReadStream(from)) as AsyncIterable<Buffer>;
  const command = { ...AS_ROOT, args: [path, mode.toString(8)], builtin: "put" } as const;
  const session = await GuestSession.start(agent, to.domain, command, {
    stdin: counted(source, onProgress),
    ...IGNORE,
  });
  checkEnd(await session.status, `${to.domain}:${path}`);
}

/** @throws ExitError  as `copyIn` */
export async function copyOut(
  agent: AgentClient,
  from: Required<CopyEnd>,
  to: string,
  onProgress: CopyProgress,
): Promise<void> {
  const command = { ...AS_ROOT, args: [from.path], builtin: "get" } as const;
  const name = `${from.domain}:${from.path}`;
  if (to === "-") {
    const session = await GuestSession.start(agent, from.domain, command, {
      onStdout: (bytes) => written(process.stdout, bytes),
      onStderr: () => {},
    });
    return checkEnd(await session.status, name);
  }
  const isFolder = (await stat(to).catch(() => undefined))?.isDirectory() === true;
  const path = isFolder ? join(to, basename(from.path)) : to;
  const part = `${path}.part-${process.pid}`;
  const file = createWriteStream(part, { mode: 0o600 });
  const failed = new Promise<never>((_, reject) => {
    file.once("error", (error) => reject(new ExitError(ExitStatus.failed, `${path}: ${reasonOf(error)}`)));
  });
  failed.catch(() => {});
  try {
    const session = await GuestSession.start(agent, from.domain, command, {
      onStdout: (bytes) => {
        onProgress(bytes.length);
        return Promise.race([written(file, bytes), failed]);
      },
      onStderr: () => {},
    });
    checkEnd(await Promise.race([session.status, failed]), name);
    await Promise.race([new Promise<void>((resolve) => file.end(resolve)), failed]);
    await rename(part, path);
  } catch (error) {
    file.destroy();
    await rm(part, { force: true });
    throw error;
  }
}

const IGNORE = { onStdout: () => {}, onStderr: () => {} };

/** A folder in the guest takes the file under its own name. */
async function targetInGuest(agent: AgentClient, { domain, path }: Required<CopyEnd>, from: string): Promise<string> {
  const isFolder = await GuestSession.start(agent, domain, { ...AS_ROOT, args: ["test", "-d", path] }, IGNORE).then(
    ({ status }) => status.catch(() => 1),
  );
  if (isFolder !== 0) return path;
  if (from === "-")
    throw new ExitError(ExitStatus.failed, `${domain}:${path}: is a folder, expected a file's name for standard input`);
  return join(path, basename(from));
}

async function statHere(path: string): Promise<Stats> {
  const found = await stat(path).catch((error: unknown) => {
    throw new ExitError(ExitStatus.failed, `${path}: ${reasonOf(error as NodeJS.ErrnoException)}`);
  });
  if (!found.isFile()) throw new ExitError(ExitStatus.failed, `${path}: is no regular file, expected one`);
  return found;
}

async function* counted(source: AsyncIterable<Buffer>, onProgress: CopyProgress): AsyncGenerator<Buffer> {
  for await (const bytes of source) {
    onProgress(bytes.length);
    yield bytes;
  }
}

function written(stream: NodeJS.WritableStream, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => void stream.write(bytes, () => resolve()));
}

/** The guest's errno as the status. */
function checkEnd(status: number, name: string): void {
  if (status === 0) return;
  let reason = `errno ${status}`;
  try {
    reason = getSystemErrorMessage(-status) ?? reason;
  } catch {
    // Not one that this system knows.
  }
  throw new ExitError(ExitStatus.failed, `${name}: ${reason}`);
}

const reasonOf = ({ errno, message }: NodeJS.ErrnoException): string =>
  (errno === undefined ? undefined : getSystemErrorMessage(errno)) ?? message;
