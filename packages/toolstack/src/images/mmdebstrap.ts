/**
 * The program mmdebstrap, which unpacks and configures Debian packages into an archive of files, as root or in a user namespace.
 * @see mmdebstrap(1)
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { machineArchive } from "../guest/apt.ts";
import { cacheDir, PackageError, type Progress } from "../guest/index.ts";

const run = promisify(execFile);
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

export interface BootstrapOptions {
  /** Code name of a release. */
  readonly suite: string;
  readonly packages: readonly string[];
  /** Archive to use instead of the machine's. */
  readonly mirror?: string;
  /** Keys that sign it. */
  readonly keyring?: string;
  readonly progress: Progress;
  /** Ends the program; whoever waits for its output is told that it was. */
  readonly signal?: AbortSignal;
}

/** @throws PackageError  it is not installed */
export async function requireMmdebstrap(): Promise<void> {
  await run("mmdebstrap", ["--version"]).catch((error: NodeJS.ErrnoException) => {
    throw error.code === "ENOENT"
      ? new PackageError(
          "mmdebstrap is not installed, expected the Debian package of this name: apt-get install mmdebstrap uidmap",
        )
      : new PackageError(`mmdebstrap cannot be used: ${error.message}`);
  });
}

/**
 * Runs it.
 * @returns the archive, as it is written
 * @throws  PackageError  there is no archive of the release; later, from the archive: a package cannot be had or configured
 */
export async function bootstrap(options: BootstrapOptions): Promise<AsyncIterable<Uint8Array>> {
  const sources = await sourcesOf(options);
  const debs = join(cacheDir(), "archives");
  mkdirSync(debs, { recursive: true });
  const args = [
    "--variant=minbase",
    "--format=tar",
    `--include=${options.packages.join(",")}`,
    "--aptopt=Acquire::Languages none",
    "--dpkgopt=force-confold",
    // Packages that were fetched are kept for the next image.
    "--skip=download/empty,essential/unlink",
    `--setup-hook=mkdir -p "$1/var/cache/apt/archives" ${quoted(debs)}`,
    `--setup-hook=sync-in ${quoted(debs)} /var/cache/apt/archives`,
    `--customize-hook=rm -rf "$1/var/cache/apt/archives/partial" "$1/var/cache/apt/archives/lock"`,
    `--customize-hook=sync-out /var/cache/apt/archives ${quoted(debs)}`,
    options.suite,
    "-",
    ...sources,
  ];
  return output(args, options);
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

async function sourcesOf({ suite, mirror, keyring }: BootstrapOptions): Promise<string[]> {
  const signedBy = ` signed-by=${keyring ?? KEYRING}`;
  if (mirror !== undefined) return [`deb [arch=amd64${signedBy}] ${mirror} ${suite} main`];
  const archive = await machineArchive();
  if (archive === undefined)
    throw new PackageError(
      "this machine has no apt that follows a Debian release, expected --mirror URL with the address of a Debian archive",
    );
  const main = archive.sources.find((entry) => entry.suite === archive.suite)!;
  const entries = suite === archive.suite ? archive.sources : [{ uri: main.uri, suite }];
  return entries.map((entry) => `deb [arch=amd64${signedBy}] ${entry.uri} ${entry.suite} main`);
}

async function* output(args: readonly string[], { progress, signal, suite }: BootstrapOptions): AsyncGenerator<Buffer> {
  // A group of its own, so that a Ctrl-C at the terminal reaches it once, from here, and its children with it.
  // The kernel's package would make a ramdisk, which takes half of a minute, and images bring one of their own.
  const env = { ...process.env, INITRD: "No" };
  const child = spawn("mmdebstrap", args, { stdio: ["ignore", "pipe", "pipe"], detached: true, env });
  const stop = (): void => endGroup(child);
  signal?.addEventListener("abort", stop, { once: true });
  process.once("exit", stop);
  const lines: string[] = [];
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  ended.catch(() => {});
  child.on("exit", () => {
    // A child that it left behind may hold the pipes open.
    if (signal?.aborted) for (const pipe of [child.stdout, child.stderr]) pipe.destroy();
  });
  let rest = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    const parts = (rest + text).split("\n");
    rest = parts.pop()!;
    for (const line of parts) {
      lines.push(line);
      const info = /^I: (.*?)(\.\.\.)?$/.exec(line)?.[1];
      if (info !== undefined && isWorthShowing(info)) progress(info);
    }
  });
  try {
    for await (const piece of child.stdout) yield piece as Buffer;
    const status = await ended;
    signal?.throwIfAborted();
    if (lines.some((line) => NO_MODE.test(line))) throw new PackageError(await whyNoMode());
    if (status !== 0) throw new PackageError(`mmdebstrap for Debian ${suite} failed: ${reasonIn(lines, status)}`);
  } finally {
    process.off("exit", stop);
    signal?.removeEventListener("abort", stop);
    if (child.exitCode === null) {
      stop();
      await ended.catch(() => {});
    }
  }
}

/** It removes its temporary folder when it is asked to end. */
function endGroup(child: ChildProcess): void {
  try {
    if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, "SIGTERM");
  } catch {
    // It ended meanwhile.
  }
}

const isWorthShowing = (info: string): boolean => !/hook|signed-by|tempdir|chroot arch|success|^done/.test(info);

/** What it says to users for whom it can neither be root in a namespace of theirs nor make believe. */
const NO_MODE = /^E: unable to pick chroot mode/;

async function whyNoMode(): Promise<string> {
  const { username } = userInfo();
  const expected = async (): Promise<string> => {
    // Called without arguments it tells how it is called, and fails.
    const found = await run("newuidmap").catch((error: NodeJS.ErrnoException) => error);
    if ("code" in found && found.code === "ENOENT") return "the Debian package uidmap: apt-get install uidmap";
    if (!["/etc/subuid", "/etc/subgid"].every((file) => names(file, username)))
      return `lines for ${username} in /etc/subuid and /etc/subgid: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${username}`;
    return "a kernel that lets users have namespaces: see user.max_user_namespaces and kernel.unprivileged_userns_clone of sysctl";
  };
  return `mmdebstrap cannot unpack packages as user ${username}, expected ${await expected()}`;
}

function names(file: string, username: string): boolean {
  try {
    return readFileSync(file, "utf8")
      .split("\n")
      .some((line) => line.startsWith(`${username}:`));
  } catch {
    return false;
  }
}

function reasonIn(lines: readonly string[], status: number | null): string {
  const errors = lines.filter((line) => /^E: /.test(line)).map((line) => line.slice(3));
  // Its own last error only says which step failed; apt's comes first.
  const reason = errors.find((error) => !/^(setup|run_chroot|apt-get|env|child|prepare|mmdebstrap)/.test(error));
  return reason ?? errors[0] ?? lines.at(-1) ?? `status ${status}`;
}
